"""Large blocks are kept between uses, compiled programs between processes."""

import ctypes
import os
import pathlib
import subprocess
import sys

import pytest

from cellseg_jax.cli import process

# Page faults of using 64 MiB five times over, after a first time, in a thread
# as XLA's.
USE = """
import resource, sys, threading
from cellseg_jax.cli.process import keep_freed_blocks
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
  monkeypatch.setattr(process.ctypes, 'CDLL', lambda _: object())
  assert not process.keep_freed_blocks()


# Adds up a compiled program's hits in the cache; `folder` is what was told.
COMPILE = """
import jax
from cellseg_jax.cli import process
process.CACHED_FROM = 0.0
folder = process.keep_compiled_programs()
hits = []
jax.monitoring.register_event_listener(
  lambda event, **_: hits.append(event.endswith('/cache_hits'))
)
total = jax.jit(lambda x: (x @ x).sum())(jax.numpy.ones((8, 8)))
print(folder, sum(hits) > 0, float(total))
"""


def compiled(**environment):
  command = [sys.executable, '-c', COMPILE]
  done = subprocess.run(
    command,
    capture_output=True,
    text=True,
    check=True,
    env=os.environ | environment,
  )
  assert not done.stderr
  return done.stdout.split()


def test_a_later_process_finds_the_compiled_programs(tmp_path):
  home = {'XDG_CACHE_HOME': str(tmp_path)}
  folder, hit, total = compiled(**home)
  assert pathlib.Path(folder).parent == tmp_path / 'cellseg_jax' / 'compiled'
  assert (hit, total) == ('False', '512.0')
  assert pathlib.Path(folder).stat().st_mode & 0o77 == 0
  assert compiled(**home) == [folder, 'True', '512.0']


@pytest.mark.skipif(
  not hasattr(os, 'sched_setaffinity') or os.cpu_count() == 1,
  reason='needs several cores',
)
def test_programs_for_another_number_of_cores_are_others(tmp_path):
  folder, *_ = compiled(XDG_CACHE_HOME=str(tmp_path))
  cores = os.sched_getaffinity(0)
  try:
    os.sched_setaffinity(0, {min(cores)})
    other, hit, _ = compiled(XDG_CACHE_HOME=str(tmp_path))
  finally:
    os.sched_setaffinity(0, cores)
  assert (other != folder) == (len(cores) > 1)
  assert hit == str(len(cores) == 1)


def test_without_a_folder_programs_are_compiled_anew(tmp_path):
  (tmp_path / 'cellseg_jax').write_text('a file')
  folder, hit, total = compiled(XDG_CACHE_HOME=str(tmp_path))
  assert (folder, hit, total) == ('None', 'False', '512.0')


def test_a_folder_that_jax_was_told_is_kept(tmp_path):
  folder, *_ = compiled(
    XDG_CACHE_HOME=str(tmp_path / 'ours'),
    JAX_COMPILATION_CACHE_DIR=str(tmp_path / 'theirs'),
  )
  assert folder == 'None'
  assert not (tmp_path / 'ours').exists()


def test_xla_is_told_to_compute_the_same_bits(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_gpu_deterministic_ops=false --other=1')
  for _ in range(2):
    process.compute_the_same_bits()
    assert os.environ['XLA_FLAGS'].split() == [
      '--xla_gpu_deterministic_ops=false',
      '--other=1',
      '--xla_gpu_deterministic_ops=true',
    ]
