"""One run at a time in a folder, and no lock left by a crash."""

import subprocess
import sys
import textwrap

import pytest

from cellseg_jax.training.lock import locked, LockedError

HOLD = textwrap.dedent("""
  import pathlib, sys
  from cellseg_jax.training.lock import locked
  with locked(pathlib.Path(sys.argv[1])):
    print('held', flush=True)
    sys.stdin.read()
""")


def test_a_second_process_is_refused_until_the_first_is_gone(tmp_path):
  command = [sys.executable, '-c', HOLD, str(tmp_path)]
  pipes = {'stdin': subprocess.PIPE, 'stdout': subprocess.PIPE}
  with subprocess.Popen(command, text=True, **pipes) as holder:
    assert holder.stdout.readline() == 'held\n'
    refused = pytest.raises(LockedError, match=f'process {holder.pid} on')
    with refused, locked(tmp_path):
      pass
    holder.kill()
    holder.wait()
  with locked(tmp_path):
    pass


def test_a_folder_is_free_after_an_error(tmp_path):
  with pytest.raises(ValueError, match='inside'), locked(tmp_path):
    raise ValueError('inside')
  with locked(tmp_path):
    pass
