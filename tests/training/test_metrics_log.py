"""What a run records survives a kill at any moment."""

import json
import pathlib

import pytest

from cellseg_jax.atomic import replace_text
from cellseg_jax.training.metrics_log import MetricsLog


def lines(path):
  return [json.loads(line) for line in path.read_text().splitlines()]


def written(path, *steps):
  log = MetricsLog(path, 0)
  for step in steps:
    log.write(step, loss=1 / step)
  return path


def test_a_line_for_each_write(tmp_path):
  path = tmp_path / 'metrics.jsonl'
  log = MetricsLog(path, 0)
  assert not path.exists()
  log.write(10, loss=0.5, learning_rate=1e-3)
  log.write(10, validation={'roc_auc': 0.9})
  assert lines(path) == [
    {'step': 10, 'loss': 0.5, 'learning_rate': 1e-3},
    {'step': 10, 'validation': {'roc_auc': 0.9}},
  ]


def test_steps_that_are_made_again_are_dropped(tmp_path):
  path = written(tmp_path / 'metrics.jsonl', 1, 2, 3, 4)
  log = MetricsLog(path, 2)
  assert lines(path) == [{'step': 1, 'loss': 1.0}, {'step': 2, 'loss': 0.5}]
  log.write(3, loss=7.0)
  assert [line['step'] for line in lines(path)] == [1, 2, 3]
  assert lines(path)[-1]['loss'] == 7


def test_a_half_written_last_line_is_dropped(tmp_path):
  path = written(tmp_path / 'metrics.jsonl', 1, 2)
  whole = path.read_text()
  for length in range(len(whole)):
    path.write_text(whole[:length])
    log = MetricsLog(path, 2)
    kept = whole[: length + 1].count('\n')  # But for its line's end, whole.
    assert [line['step'] for line in lines(path)] == [1, 2][:kept]
    log.write(3)
    assert lines(path)[-1] == {'step': 3}


def test_a_new_run_starts_an_old_log_afresh(tmp_path):
  path = written(tmp_path / 'metrics.jsonl', 1, 2)
  MetricsLog(path, 0)
  assert path.read_text() == ''


def test_replacing_leaves_no_other_file(tmp_path):
  path = tmp_path / 'evaluation.json'
  replace_text(path, 'old')
  replace_text(path, 'new')
  assert path.read_text() == 'new'
  assert list(tmp_path.iterdir()) == [path]


def test_a_replacement_that_fails_leaves_the_old(tmp_path, monkeypatch):
  path = tmp_path / 'evaluation.json'
  replace_text(path, 'old')
  write = pathlib.Path.write_text

  def killed(self, text):
    write(self, text[: len(text) // 2])
    raise KeyboardInterrupt

  monkeypatch.setattr(pathlib.Path, 'write_text', killed)
  with pytest.raises(KeyboardInterrupt):
    replace_text(path, 'half of this is written')
  monkeypatch.undo()
  assert path.read_text() == 'old'
  replace_text(path, 'new')
  assert path.read_text() == 'new'
