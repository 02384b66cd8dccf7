"""Whole studies of a network that is a line, on three tiny images."""

import csv
import json

import jax
import numpy as np
import pytest
from tiny_networks import use_a_line
from tiny_sets import cells, write_folder

from benchmarks import next_image
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.load import load_whole
from cellseg_jax.images import formats
from cellseg_jax.model import fcn
from cellseg_jax.serialization import load, replace
from cellseg_jax.studies import audit, cross_validation, runs
from cellseg_jax.studies.held_out import leave_one_out
from cellseg_jax.studies.learning_curve import learning_curve
from cellseg_jax.training import parallel, results

# A line that is sure of what is bright.
SURE = {'params': {'slope': np.float32(12), 'offset': np.float32(-6)}}


def _idle(step, steps_per_call, streamed):
  """Stands in for `parallel_steps`: the line is good as it is."""
  del step, streamed

  def advance(state, pool):
    del pool
    later = state.replace(step=state.step + steps_per_call)
    return later, np.zeros(steps_per_call)

  return advance


@pytest.fixture(autouse=True)
def _line(monkeypatch):
  use_a_line(monkeypatch)
  monkeypatch.setattr(fcn, 'init', lambda *_: SURE)
  monkeypatch.setattr(parallel, 'parallel_steps', _idle)
  # They take longer than all else.
  monkeypatch.setattr(
    results,
    'write_figures',
    lambda folder, *_: (folder / 'drawn').mkdir(parents=True),
  )


def config_on(folder, **data):
  return replace(
    Config(),
    data={
      'dataset': 'labelled_folder',
      'path': str(folder),
      'cache': str(folder.parent / 'cache'),
      **data,
    },
    targets={'gap': 0},
    training={'steps': 2, 'crop_size': 32, 'batch_size': 1},
    decoding={'rim': 0},
  )


def table(path):
  with path.open() as file:
    return list(csv.DictReader(file))


def test_cross_validation_holds_every_image_out_and_repeats_no_run(
  tmp_path, monkeypatch
):
  write_folder(tmp_path / 'set', ['a', 'b', 'c'])
  out = tmp_path / 'out'
  report = cross_validation.cross_validate(config_on(tmp_path / 'set'), out)
  assert list(report['images']) == ['a', 'b', 'c']
  for name in 'abc':
    ran = load(out / 'folds' / name / 'config.json')
    assert ran.data.train_images == ','.join(n for n in 'abc' if n != name)
    assert ran.training.evaluate_every == ran.training.steps
    assert report['images'][name]['f1']['0.5'] == 1
    held = formats.read_labels(out / 'held_out' / f'{name}.tif')
    assert held.max() == cells()[1].max()
  written = json.loads((out / 'cross_validation.json').read_text())
  assert written['pooled'] == report['pooled']
  assert [row['image'] for row in table(out / 'cross_validation.csv')][3:] == [
    'all',
    'all, lower bound',
    'all, upper bound',
  ]
  assert formats.read_image(out / 'cross_validation.png').shape[-1] >= 3
  assert 'a: F1 at IoU 0.5 1.000' in cross_validation.summary(report)
  monkeypatch.setattr(runs, 'train', lambda *_: pytest.fail('trained again'))
  again = cross_validation.cross_validate(config_on(tmp_path / 'set'), out)
  assert again == report


def test_the_audit_finds_a_deleted_and_a_shifted_label(tmp_path):
  folder = write_folder(tmp_path / 'set', ['a', 'b', 'c'])
  path = folder / 'labels' / 'b.tif'
  labels = formats.read_labels(path)
  deleted, shifted = np.argwhere(labels == 4), np.argwhere(labels == 6)
  labels[labels == 4] = 0
  labels[labels == 6] = 0
  rows, columns = shifted.T
  labels[rows + 4, columns] = 6
  formats.write_labels(path, labels)
  report = audit.audit(config_on(folder), tmp_path / 'out')
  first, second = report['suspects'][:2]
  assert {first['kind'], second['kind']} == {'label', 'unlabelled'}
  for one in (first, second):
    assert one['image'] == 'b'
    if one['kind'] == 'label':
      assert one['value'] == 6
    else:
      middle = (one['row'], one['column'])
      assert middle == pytest.approx(deleted.mean(0), abs=1)
  rows = table(tmp_path / 'out' / 'audit.csv')
  assert [int(row['rank']) for row in rows] == list(range(1, len(rows) + 1))
  assert formats.read_image(tmp_path / 'out' / 'audit.png')[..., :3].std() > 10
  assert audit.summary(report).startswith('1. b, row ')


def test_a_learning_curve_grows_one_subset_into_the_next(tmp_path):
  write_folder(tmp_path / 'set' / 'train', ['a', 'b', 'c'])
  write_folder(tmp_path / 'set' / 'validation', ['d'])
  config = config_on(tmp_path / 'set')
  report = learning_curve(config, tmp_path / 'out', [1, 2, 3], seeds=1)
  names = [set(run['names']) for run in report['runs']]
  assert names[0] < names[1] < names[2] == set('abc')
  assert [run['cells'] for run in report['runs']] == [12, 24, 36]
  assert report['one_more']['to'] == 4
  rows = table(tmp_path / 'out' / 'learning_curve.csv')
  assert rows[2]['names'] == 'a b c'
  assert (tmp_path / 'out' / 'runs' / 'images2-seed0').is_dir()
  assert formats.read_image(tmp_path / 'out' / 'learning_curve.png').size


def test_a_name_that_cannot_stand_in_a_list_of_names_is_refused(tmp_path):
  config = config_on(write_folder(tmp_path / 'set', ['a', 'b,c', 'd']))
  with pytest.raises(ConfigError, match=r'b,c: .* must hold no comma; rename'):
    cross_validation.cross_validate(config, tmp_path / 'out')


def test_programs_of_a_run_are_let_go_of_when_it_is_made(tmp_path):
  config = config_on(write_folder(tmp_path / 'set', ['a', 'b']))
  earlier = jax.jit(lambda x: x + 1)
  earlier(1)
  assert earlier._cache_size() == 1
  runs.make_runs(
    {tmp_path / 'out': runs.config_of_run(config, ['a'], 0)},
    load_whole(config.data).train,
  )
  assert earlier._cache_size() == 0


def test_every_other_image_is_added_once_to_see_what_the_choice_is_worth(
  tmp_path,
):
  write_folder(tmp_path / 'set' / 'train', list('abcde'))
  write_folder(tmp_path / 'set' / 'validation', ['f'])
  config, out = config_on(tmp_path / 'set'), tmp_path / 'out'
  found = next_image.repeat(config, out, labelled=3, seed=1)
  others = set('abcde') - set(found['labelled'])
  assert len(found['labelled']) == 3
  assert set(found['scores']) == set(found['ranked']) == others
  for name in others:
    ran = load(out / 'runs' / name / 'config.json')
    assert set(ran.data.train_images.split(',')) == {*found['labelled'], name}
  found['scores'] = dict(zip(found['ranked'], (0.5, 0.25), strict=True))
  assert next_image.describe(found) == {
    'chosen': 0.5,
    'random': 0.375,
    'best': 0.5,
    'worst': 0.25,
  }


def test_too_few_images_are_refused(tmp_path):
  folder = write_folder(tmp_path / 'set', ['a', 'b'])
  config, out = config_on(folder), tmp_path / 'out'
  with pytest.raises(ConfigError, match='at least 3 images with labelled'):
    audit.audit(config, out)
  with pytest.raises(ConfigError, match='asks for 2 of 2 images and leaves'):
    learning_curve(config, out, [1, 2], seeds=1)
  write_folder(tmp_path / 'more' / 'train', ['a', 'b'])
  write_folder(tmp_path / 'more' / 'validation', ['c'])
  with pytest.raises(ConfigError, match='asks for 3 images, but there are 2'):
    learning_curve(config_on(tmp_path / 'more'), out, [3], seeds=1)
  assert not out.exists()


def test_labels_that_have_changed_are_not_judged_by_older_runs(tmp_path):
  folder = write_folder(tmp_path / 'set', ['a', 'b', 'c'])
  out = tmp_path / 'out'
  learning_curve(config_on(folder), out, [1], seeds=1)
  path = folder / 'labels' / 'a.tif'
  labels = formats.read_labels(path)
  labels[labels == 1] = 0
  formats.write_labels(path, labels)
  for study in (
    lambda: audit.audit(config_on(folder), out),
    lambda: learning_curve(config_on(folder), out, [1], seeds=1),
  ):
    with pytest.raises(ConfigError, match='have changed since the runs in'):
      study()


def test_images_without_a_cell_are_not_held_out(tmp_path):
  folder = write_folder(tmp_path / 'set', ['a', 'b', 'c', 'd'])
  path = folder / 'labels' / 'b.tif'
  formats.write_labels(path, 0 * formats.read_labels(path))
  held = leave_one_out(config_on(folder), tmp_path / 'out')
  assert [one.image.name for one in held] == ['a', 'c', 'd']
  ran = load(tmp_path / 'out' / 'folds' / 'a' / 'config.json')
  assert ran.data.train_images == 'b,c,d'
  report = learning_curve(config_on(folder), tmp_path / 'out', [1, 2], 3)
  assert not [run for run in report['runs'] if 'b' in run['names']]
