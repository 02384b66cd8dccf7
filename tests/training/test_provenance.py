"""What a run was made with and from; what has changed since is noticed."""

import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest

from cellseg_jax.training import provenance
from cellseg_jax.training.provenance import ProvenanceError

FILES = {'train/images/a.tif': '0' * 64, 'train/labels/a.tif': '1' * 64}


@pytest.fixture
def begun(tmp_path):
  assert provenance.note_start(tmp_path, FILES, 0) == ''
  return tmp_path


def test_the_same_files_are_let_through(begun):
  provenance.check_files(begun, FILES)


def test_a_folder_without_a_run_is_let_through(tmp_path):
  provenance.check_files(tmp_path, FILES)


@pytest.mark.parametrize(
  ('files', 'said'),
  [
    (FILES | {'train/labels/a.tif': '2' * 64}, 'train/labels/a.tif is changed'),
    (FILES | {'train/labels/b.tif': '2' * 64}, 'train/labels/b.tif is new'),
    ({'train/labels/a.tif': '1' * 64}, 'train/images/a.tif is missing'),
  ],
)
def test_other_files_are_refused_by_name(begun, files, said):
  with pytest.raises(ProvenanceError, match=f'other files: {said}; put them'):
    provenance.check_files(begun, files)


def test_of_many_files_a_few_are_named(begun):
  more = {f'train/images/{i}.tif': '' for i in range(9)}
  with pytest.raises(ProvenanceError, match=r'4\.tif is new, 4 more; put'):
    provenance.check_files(begun, FILES | more)


def test_a_damaged_record_is_refused(begun):
  (begun / provenance.NAME).write_text('{"files": {}}')
  with pytest.raises(ProvenanceError, match='is damaged'):
    provenance.check_files(begun, FILES)


def test_every_start_is_noted_and_a_difference_is_said(begun, monkeypatch):
  monkeypatch.setattr(provenance, 'cpu_threads', lambda: 777)
  said = provenance.note_start(begun, FILES, 30)
  before = json.loads((begun / provenance.NAME).read_text())['starts'][0]
  then = before['cpu_threads']
  assert f'there changed cpu_threads (then {then}, now 777);' in said
  assert '\n' not in said
  assert provenance.note_start(begun, FILES, 60) == ''
  found = json.loads((begun / provenance.NAME).read_text())
  assert found['files'] == FILES
  assert [start['step'] for start in found['starts']] == [0, 30, 60]
  assert [start['cpu_threads'] for start in found['starts']] == [then, 777, 777]


def test_the_environment_is_this_one():
  found = provenance.environment()
  assert found['jax'] == jax.__version__
  assert found['numpy'] == np.__version__
  assert found['python'] == sys.version.split()[0]
  assert found['device_count'] == jax.device_count()
  assert found['process_count'] == 1


# How many threads XLA has after a computation, and how many we say it has.
THREADS = """
import os, pathlib
import jax.numpy as jnp
from cellseg_jax.training.provenance import cpu_threads
jnp.ones(9).sum().block_until_ready()
tasks = pathlib.Path('/proc/self/task').glob('*/comm')
print(sum('XLAEigen' in task.read_text() for task in tasks), cpu_threads())
"""


@pytest.mark.skipif(sys.platform != 'linux', reason='reads /proc')
def test_cpu_threads_are_those_of_xla(monkeypatch):
  monkeypatch.setenv('NPROC', '3')
  said = subprocess.run(
    [sys.executable, '-c', THREADS], capture_output=True, text=True, check=True
  )
  assert said.stdout.split() == ['3', '3']
  monkeypatch.delenv('NPROC')
  assert provenance.cpu_threads() == len(os.sched_getaffinity(0))


def git(folder, *arguments):
  who = ['-c', 'user.name=a', '-c', 'user.email=a@b.c']
  subprocess.run(
    ['git', '-C', str(folder), *who, *arguments],
    check=True,
    capture_output=True,
  )


def test_the_commit_is_that_of_the_checkout(tmp_path):
  (tmp_path / 'code').write_text('one')
  assert provenance.commit(tmp_path) is None
  git(tmp_path, 'init')
  git(tmp_path, 'add', 'code')
  git(tmp_path, 'commit', '-m', 'one')
  found = provenance.commit(tmp_path)
  assert len(found) == 40
  assert int(found, 16)
  (tmp_path / 'code').write_text('two')
  assert provenance.commit(tmp_path) == f'{found}-dirty'
  # A folder within a checkout of something else is none.
  (tmp_path / 'within').mkdir()
  assert provenance.commit(tmp_path / 'within') is None
