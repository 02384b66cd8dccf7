"""What a whole run leaves, and what follows from it."""

import json
import sys

import numpy as np
import pytest
from skimage.io import imread
from tiny_sets import cells
from whole_runs import (
  arrays,
  command,
  kill_after_a_checkpoint,
  losses,
  run,
  STEPS,
)

import cellseg_jax
from cellseg_jax import serialization
from cellseg_jax.cli import main
from cellseg_jax.datasets.load import load
from cellseg_jax.datasets.survey import survey
from cellseg_jax.images import formats
from cellseg_jax.inference.decode import DECODERS
from cellseg_jax.training.resolve import resolve


@pytest.fixture(scope='module')
def trained(data):
  """A finished run: its folder and what it printed."""
  workdir = data.parent / 'trained'
  result = run(command(data, workdir))
  assert result.returncode == 0, result.stderr
  return workdir, result


def test_training_leaves_what_it_promises(trained):
  workdir, result = trained
  evaluation = json.loads((workdir / 'evaluation.json').read_text())
  for split in ('training', 'validation'):
    figures = evaluation[split]
    assert 0 <= figures['roc_auc'] <= 1
    assert set(figures['tpr_at_fpr']) == {'0.01', '0.02', '0.05', '0.1'}
    assert '0.5' in figures['f1']
    assert 0 <= figures['dice'] <= 1
  assert evaluation['step'] in (6, 12)
  settings = evaluation['settings']
  assert set(settings) == set(DECODERS['ascent'].candidates)
  rows = (workdir / 'decoding.csv').read_text().splitlines()
  assert rows[0] == 'threshold,centre_share,depth,confidence,f1,mean_f1'
  assert len(rows) == 1 + len(evaluation['trials']) > 10
  names = {path.name for path in (workdir / 'figures').iterdir()}
  assert names == {
    'training_image.png',
    'augmentation.png',
    'prediction_c.png',
    'segmentation_c.png',
  }
  for name in names:
    picture = imread(workdir / 'figures' / name)
    assert min(picture.shape[:2]) > 200
    assert picture.std() > 10
  assert [line for line in result.stdout.splitlines() if 'ROC AUC' in line]
  assert f'--model {workdir}' in result.stdout


def test_a_run_can_be_looked_at(trained):
  workdir, result = trained
  page = (workdir / 'report' / 'index.html').read_text()
  assert 'of step' in page
  assert page.count('src="data:image/') > 8
  assert '\r' not in result.stderr
  assert f'training: {STEPS}/{STEPS} steps' in result.stderr
  assert 'no report was written' not in result.stdout
  (events,) = (workdir / 'events').iterdir()
  written = events.read_bytes()
  for tag in (b'training/loss', b'validation/mean_f1', b'validation/c'):
    assert tag in written


def test_the_page_is_written_again_on_demand(trained, monkeypatch, capsys):
  workdir, _ = trained
  page = workdir / 'report' / 'index.html'
  page.unlink()
  monkeypatch.setattr(sys, 'argv', ['cellseg', 'report', str(workdir)])
  assert main.run() == 0
  assert f'Report: {page}' in capsys.readouterr().out
  assert 'best model by' in page.read_text()
  monkeypatch.setattr(sys, 'argv', ['cellseg', 'report', str(page.parent)])
  assert main.run() == 2
  assert 'no trained model here' in capsys.readouterr().err


def test_metrics_are_logged_at_their_steps(trained):
  workdir, _ = trained
  lines = [
    json.loads(line)
    for line in (workdir / 'metrics.jsonl').read_text().splitlines()
  ]
  logged = [line['step'] for line in lines if 'loss' in line]
  assert logged == list(range(1, STEPS + 1))
  evaluated = {line['step']: line for line in lines if 'validation' in line}
  assert list(evaluated) == [6, 12]
  names = {'roc_auc', 'f1', 'mean_f1', 'dice'}
  assert set(evaluated[6]['validation']) == names


def test_a_finished_run_says_so_and_changes_nothing(data, trained):
  workdir, _ = trained
  before = (workdir / 'metrics.jsonl').read_text()
  result = run(command(data, workdir))
  assert result.returncode == 0
  assert 'holds this run, finished: 12 steps' in result.stdout
  assert (workdir / 'metrics.jsonl').read_text() == before


def test_the_resolved_config_is_enough_to_repeat_the_run(trained):
  workdir, _ = trained
  config = json.loads((workdir / 'config.json').read_text())
  # Discs of diameter 13 seen at a diameter of 10.
  assert 0.7 < config['data']['resample'] < 0.85
  assert config['decoding']['min_area'] > 0
  assert config['decoding']['rim'] == 1
  # Also by the command in the report, which is made from it.
  saved = serialization.load(workdir / 'config.json')
  splits = load(saved.data)
  areas = survey(splits.train).areas
  assert resolve(saved, areas, splits.pixel_size) == saved


def test_a_run_starts_from_the_weights_of_another(data, trained, tmp_path):
  result = run(
    command(
      data,
      tmp_path / 'tuned',
      training__init_from=trained[0],
      training__steps=1,
      training__evaluate_every=1,
      optimizer__learning_rate=1e-12,
      optimizer__average=0,
    )
  )
  assert result.returncode == 0, result.stderr
  expected = arrays(trained[0])
  for name, value in arrays(tmp_path / 'tuned').items():
    if 'params' in name:
      np.testing.assert_allclose(value, expected[name], atol=1e-8)


def test_weights_that_do_not_fit_are_refused(data, trained, tmp_path):
  for fields, message in (
    ({'training__init_from': trained[0], 'model__width': 0.1}, 'shape'),
    ({'training__init_from': tmp_path}, 'no trained model here'),
  ):
    result = run(command(data, tmp_path / 'run', **fields))
    assert result.returncode == 2
    assert message in result.stderr
    assert not (tmp_path / 'run').exists()


def test_a_folder_of_another_run_is_refused(data, trained):
  workdir, _ = trained
  result = run(command(data, workdir, training__seed=1))
  assert result.returncode == 2
  assert 'config.training.seed (there 0, now 1)' in result.stderr


def test_a_killed_run_ends_in_the_same_weights(data, trained):
  workdir = data.parent / 'killed'
  arguments = command(data, workdir)
  kill_after_a_checkpoint(arguments, workdir, devices=1)
  result = run(arguments)
  assert result.returncode == 0, result.stderr
  assert 'Going on from step' in result.stdout
  expected = arrays(trained[0])
  found = arrays(workdir)
  assert found.keys() == expected.keys()
  for name, value in expected.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert losses(workdir) == losses(trained[0])


def test_segment_writes_labels_and_a_line_a_file(trained, tmp_path):
  workdir, _ = trained
  images = tmp_path / 'images'
  images.mkdir()
  for seed, name in enumerate(['one', 'two']):
    formats.write_labels(images / f'{name}.tif', cells(seed)[0])
  (images / 'bad.png').write_bytes(b'not an image')
  program = 'from cellseg_jax.cli.main import run; raise SystemExit(run())'
  result = run(
    [
      sys.executable,
      '-c',
      program,
      'segment',
      '--model',
      str(workdir),
      '--out',
      str(tmp_path / 'out'),
      '--list-below',
      '1',
      str(images),
    ]
  )
  assert result.returncode == 1
  assert 'bad.png: failed' in result.stderr
  assert sum(' cells, ' in line for line in result.stdout.splitlines()) == 2
  model = cellseg_jax.load_model(workdir)
  listed = 0
  for seed, name in enumerate(['one', 'two']):
    labels = imread(tmp_path / 'out' / f'{name}.tif')
    assert labels.dtype == np.uint16
    image = cells(seed)[0]
    np.testing.assert_array_equal(labels, cellseg_jax.segment(model, image))
    listed += int(labels.max())
  assert result.stdout.count('confidence 0.') == listed > 0


def test_segment_averages_several_models(trained, tmp_path, monkeypatch):
  workdir, _ = trained
  formats.write_labels(tmp_path / 'one.tif', cells(0)[0])
  for models in (1, 2):
    command = ['cellseg', 'segment', *['--model', str(workdir)] * models]
    command += ['--out', str(tmp_path / f'out{models}')]
    monkeypatch.setattr(sys, 'argv', [*command, str(tmp_path / 'one.tif')])
    assert main.run() == 0
  np.testing.assert_array_equal(
    imread(tmp_path / 'out2' / 'one.tif'), imread(tmp_path / 'out1' / 'one.tif')
  )
