"""Files that are replaced whole or not at all."""

import errno
import signal
import subprocess
import sys

import pytest

from cellseg_jax import atomic
from cellseg_jax.atomic import replacing


def write(path, text, fault=None):
  with replacing(path) as partial:
    partial.write_text(text)
    if fault:
      raise fault


def names(folder):
  return [path.name for path in folder.iterdir()]


def test_the_file_appears_at_the_end(tmp_path):
  path = tmp_path / 'a.tif'
  path.write_text('old')
  with replacing(path) as partial:
    partial.write_text('new')
    assert partial.suffix == '.tif'
    assert partial.name.startswith('.')
    assert path.read_text() == 'old'
  assert path.read_text() == 'new'
  assert names(tmp_path) == ['a.tif']


@pytest.mark.parametrize('fault', [ValueError, KeyboardInterrupt])
def test_a_failed_write_leaves_the_old_file_alone(tmp_path, fault):
  path = tmp_path / 'a.tif'
  path.write_text('old')
  with pytest.raises(fault):
    write(path, 'half', fault)
  assert path.read_text() == 'old'
  assert names(tmp_path) == ['a.tif']


def test_a_killed_run_leaves_the_old_file(tmp_path):
  path = tmp_path / 'a.csv'
  path.write_text('old')
  code = f"""if True:
    import os, runpy, signal
    atomic = runpy.run_path({atomic.__file__!r})
    with atomic['replacing']({str(path)!r}) as partial:
      partial.write_text('half')
      os.kill(os.getpid(), signal.SIGKILL)
  """
  done = subprocess.run([sys.executable, '-c', code], check=False)
  assert done.returncode == -signal.SIGKILL
  assert path.read_text() == 'old'
  assert len(names(tmp_path)) == 2
  # What it left goes when another process writes there.
  write(path, 'new')
  assert names(tmp_path) == ['a.csv']


def test_a_write_that_is_under_way_is_left_alone(tmp_path):
  path = tmp_path / 'a.csv'
  with replacing(path) as partial:
    partial.write_text('first')
    atomic._sweep.cache_clear()  # As another process would.
    write(path, 'second')
    assert partial.read_text() == 'first'
  assert path.read_text() == 'first'


def test_errors_name_the_file_that_was_meant(tmp_path):
  path = tmp_path / 'a.tif'
  full = OSError(errno.ENOSPC, 'No space left on device')
  with pytest.raises(OSError, match=r'No space left.*a\.tif'):
    write(path, 'half', full)
  with pytest.raises(FileNotFoundError, match=r'absent/a\.tif'):
    write(tmp_path / 'absent' / 'a.tif', '')
  with pytest.raises(FileNotFoundError, match='another'), replacing(path):
    (tmp_path / 'another').read_text()


def test_names_may_be_as_long_as_files_can_have(tmp_path):
  path = tmp_path / ('x' * 251 + '.tif')
  with replacing(path) as partial:
    partial.touch()
  assert path.exists()
