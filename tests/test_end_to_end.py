"""Whole runs, each in a process of its own, as a user would start them."""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

import jax
import numpy as np
import pytest
import quick
from skimage.io import imread
from tiny_sets import cells, write_folder

import cellseg_jax
from cellseg_jax.images import formats

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 12

TINY = {
  'data.dataset': 'labelled_folder',
  'data.cell_diameter': 10,
  'model.width': 0.05,
  'model.head': 'skips',
  'model.maps': 'foreground,distance,centre',
  'optimizer.average': 0.9,
  'decoding.method': 'ascent',
  'decoding.min_area': -1,
  'decoding.rim': -1,
  'training.steps': STEPS,
  'training.batch_size': 4,
  'training.crop_size': 32,
  'training.log_every': 1,
  'training.checkpoint_every': 3,
  'training.evaluate_every': 6,
}


def command(data, workdir, **fields):
  """The command line of a tiny run on the images under `data`."""
  fields = TINY | {
    'data.path': data,
    'data.cache': data.parent / 'cache',
    **{name.replace('__', '.'): value for name, value in fields.items()},
  }
  return [
    sys.executable,
    str(ROOT / 'run_train.py'),
    f'--workdir={workdir}',
    *(f'--config.{field}={value}' for field, value in fields.items()),
  ]


def environment(devices):
  """So many CPU devices, and programs compiled quickly: they run once."""
  options = {k: str(v).lower() for k, v in quick.OPTIONS.items()}
  flags = [f'--{option}={value}' for option, value in options.items()]
  return os.environ | {
    'JAX_NUM_CPU_DEVICES': str(devices),
    'XLA_FLAGS': ' '.join(flags),
  }


def run(arguments, devices=1):
  """Runs a command to its end on so many CPU devices."""
  return subprocess.run(
    arguments,
    capture_output=True,
    text=True,
    check=False,
    env=environment(devices),
  )


def kill_after_a_checkpoint(arguments, workdir, devices):
  """Starts a run and kills it when its first checkpoint is whole."""
  process = subprocess.Popen(
    arguments,
    stdout=subprocess.DEVNULL,
    stderr=subprocess.DEVNULL,
    env=environment(devices),
  )
  until = time.monotonic() + 300
  while not (workdir / 'checkpoints' / '3').exists():
    assert process.poll() is None
    assert time.monotonic() < until
    time.sleep(0.01)
  process.send_signal(signal.SIGKILL)
  process.wait()


def arrays(workdir):
  """All weights of the model of a run, by name."""
  model = cellseg_jax.load_model(workdir)
  flat, _ = jax.tree_util.tree_flatten_with_path(model.variables)
  return {str(path): np.asarray(value) for path, value in flat}


def losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [line['loss'] for line in map(json.loads, lines) if 'loss' in line]


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  folder = tmp_path_factory.mktemp('end_to_end') / 'set'
  write_folder(folder / 'train', ['a', 'b'])
  write_folder(folder / 'validation', ['c'])
  return folder


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
  assert set(settings) == {'threshold', 'centre_share', 'depth'}
  rows = (workdir / 'decoding.csv').read_text().splitlines()
  assert rows[0] == 'threshold,centre_share,depth,f1,mean_f1'
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
  assert set(evaluated[6]['validation']) == {'roc_auc', 'f1', 'dice'}


def test_a_finished_run_says_so_and_changes_nothing(data, trained):
  workdir, _ = trained
  before = (workdir / 'metrics.jsonl').read_text()
  result = run(command(data, workdir))
  assert result.returncode == 0
  assert 'Going on from step 12 of 12' in result.stdout
  assert (workdir / 'metrics.jsonl').read_text() == before


def test_the_resolved_config_is_enough_to_repeat_the_run(trained):
  workdir, _ = trained
  config = json.loads((workdir / 'config.json').read_text())
  # Discs of diameter 13 seen at a diameter of 10.
  assert 0.7 < config['data']['resample'] < 0.85
  assert config['decoding']['min_area'] > 0
  assert config['decoding']['rim'] == 1


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


def test_four_devices_train_as_one(data, tmp_path):
  curves = {}
  for devices in (1, 4):
    workdir = tmp_path / str(devices)
    result = run(
      command(
        data,
        workdir,
        training__steps=5,
        training__evaluate_every=5,
        # Crops of very unequal weight, some of them empty.
        targets__edge_weight=50.0,
        # As the quickstart: updates in proportion to the gradient. RMSprop's
        # own first ones are its signs, those of rounding errors included.
        optimizer__initial_scale=1.0,
        optimizer__learning_rate=2e-4,
      ),
      devices,
    )
    assert result.returncode == 0, result.stderr
    curves[devices] = losses(workdir)
  np.testing.assert_allclose(curves[4], curves[1], rtol=1e-5)


def test_a_checkpoint_goes_on_with_other_devices(data, tmp_path):
  workdir = tmp_path / 'run'
  arguments = command(data, workdir)
  kill_after_a_checkpoint(arguments, workdir, devices=4)
  result = run(arguments, devices=2)
  assert result.returncode == 0, result.stderr
  assert 'Going on from step' in result.stdout
  assert len(losses(workdir)) == STEPS


def test_a_batch_that_devices_cannot_share_is_refused(data, tmp_path):
  result = run(command(data, tmp_path / 'run'), devices=3)
  assert result.returncode == 2
  assert 'multiple of the 3 devices' in result.stderr
  assert 'nearest are 3 and 6' in result.stderr
  assert not (tmp_path / 'run').exists()


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


IMPORTS = """
import sys
from cellseg_jax.cli import train
assert train.main(sys.argv) == 0
assert 'tensorflow' not in sys.modules
print('absent after training')
"""

SEGMENTS = """
import sys
import numpy as np
import cellseg_jax
model = cellseg_jax.load_model(sys.argv[1])
cellseg_jax.segment(model, np.zeros((40, 50)))
assert 'tensorflow' not in sys.modules
assert 'tensorflow_datasets' not in sys.modules
print('absent after segmenting')
"""


def test_tensorflow_is_never_imported(data, trained, tmp_path):
  arguments = command(
    data, tmp_path / 'run', training__steps=2, training__evaluate_every=2
  )
  result = run([sys.executable, '-c', IMPORTS, *arguments[2:]])
  assert 'absent after training' in result.stdout, result.stderr
  result = run([sys.executable, '-c', SEGMENTS, str(trained[0])])
  assert 'absent after segmenting' in result.stdout, result.stderr
