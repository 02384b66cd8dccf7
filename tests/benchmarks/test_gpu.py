"""The suite for GPUs goes on where it was stopped; no work is done here."""

import json

import pytest

from benchmarks import gpu


@pytest.fixture
def pieces(monkeypatch):
  """A part of two pieces, the second of which fails until it is mended."""
  calls = []

  def first():
    calls.append('first')
    return {'seconds': 0.25}

  def second():
    calls.append('second')
    if 'mended' not in calls:
      raise RuntimeError('out of memory')
    return {'seconds': 1.5, 'of': {'same': True}}

  part = {'first': first, 'second': second}
  monkeypatch.setattr(gpu, 'PARTS', {'speed': lambda data, folder: part})
  return calls


def test_what_is_done_is_kept_and_not_done_again(pieces, tmp_path, capsys):
  record = tmp_path / 'records' / 'gpu.json'
  with pytest.raises(RuntimeError, match='out of memory'):
    gpu.run(['speed'], tmp_path, record)
  pieces.append('mended')
  gpu.run(['speed'], tmp_path, record)
  assert pieces == ['first', 'second', 'mended', 'second']
  done = json.loads(record.read_text())
  assert done['speed: first']['figures'] == {'seconds': 0.25}
  assert 'jax' in done['speed: second']['versions']
  assert capsys.readouterr().out.splitlines()[-2:] == [
    'speed: first | seconds 0.25',
    'speed: second | seconds 1.5; of same True',
  ]


def test_sets_are_found_in_a_folder_of_them(tmp_path):
  for name in ('b', 'a', 'unlabelled'):
    (tmp_path / name / 'train').mkdir(parents=True)
  for name in 'ab':
    (tmp_path / name / 'validation' / 'labels').mkdir(parents=True)
  assert [path.name for path in gpu._sets(tmp_path)] == ['a', 'b']
  assert [path.name for path in gpu._sets(tmp_path / 'b')] == ['b']
  with pytest.raises(SystemExit, match='no folder with train/'):
    gpu._sets(tmp_path / 'unlabelled')
