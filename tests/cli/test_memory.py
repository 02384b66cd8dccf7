"""Large blocks are kept between uses, so that their pages stay."""

import ctypes
import subprocess
import sys

import pytest

from cellseg_jax.cli import memory

# Page faults of using 64 MiB five times over, after a first time, in a thread
# as XLA's.
USE = """
import resource, sys, threading
from cellseg_jax.cli.memory import keep_freed_blocks
if 'keep' in sys.argv:
  assert keep_freed_blocks()
faults = []
def use():
  for _ in range(6):
    bytearray(b'x') * (64 << 20)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
thread = threading.Thread(target=use)
thread.start()
thread.join()
print(faults[-1] - faults[0])
"""


def faults(*arguments):
  command = [sys.executable, '-c', USE, *arguments]
  done = subprocess.run(command, capture_output=True, text=True, check=True)
  return int(done.stdout)


@pytest.mark.skipif(
  not (sys.platform == 'linux' and hasattr(ctypes.CDLL(None), 'mallopt')),
  reason='the C library has no such settings',
)
def test_freed_blocks_are_kept():
  assert faults() > 10_000
  assert faults('keep') < 1_000


def test_other_c_libraries_are_left_alone(monkeypatch):
  monkeypatch.setattr(memory.ctypes, 'CDLL', lambda _: object())
  assert not memory.keep_freed_blocks()
