"""Runs that are killed, damaged or diverge: what is lost, and what is said."""

import json
import random
import re
import shutil
import signal
import subprocess

import jax.numpy as jnp
import numpy as np
import pytest
from skimage.io import imread
from tiny_networks import use_a_line
from tiny_sets import write_folder
from whole_runs import arrays, command, losses, run, start, wait_for

from cellseg_jax.cli import config_flag
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.images import formats
from cellseg_jax.training import feed, loop, manifest, replay, results
from cellseg_jax.training.provenance import ProvenanceError
from cellseg_jax.training.updates import TrainingError


@pytest.fixture(scope='module')
def expected(data):
  """The weights of a run that nothing happened to, and its folder."""
  workdir = data.parent / 'untouched'
  result = run(command(data, workdir))
  assert result.returncode == 0, result.stderr
  return arrays(workdir), workdir


def check_equal(workdir, expected):
  weights, other = expected
  found = arrays(workdir)
  assert found.keys() == weights.keys()
  for name, value in weights.items():
    np.testing.assert_array_equal(found[name], value, err_msg=name)
  assert losses(workdir) == losses(other)


@pytest.mark.parametrize(
  'number',
  [signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)],
)
def test_a_run_that_is_asked_to_end_saves_and_goes_on(data, expected, number):
  """Crops are streamed, where the other run had all images on its device."""
  workdir = data.parent / f'asked{number}'
  arguments = command(data, workdir, training__stream='always')
  process = start(arguments)
  wait_for(workdir / 'checkpoints' / '3', process)
  process.send_signal(number)
  said, _ = process.communicate()
  assert process.returncode == 128 + number
  assert 'interrupted and saved at step' in said
  assert 'Traceback' not in said
  result = run(arguments)
  assert result.returncode == 0, result.stderr
  assert 'Going on from step' in result.stdout
  check_equal(workdir, expected)


def kill_at_random(data, workdir, times, seed):
  """Kills a run so many times, from its first step on, also while it saves."""
  rng = random.Random(seed)
  arguments = command(data, workdir, training__checkpoint_every=1)
  killed = 0
  while killed < times:
    process = start(arguments)
    try:
      wait_for(workdir / 'metrics.jsonl', process)
      process.wait(rng.uniform(0, 3))
    except subprocess.TimeoutExpired:
      process.kill()
      killed += 1
    process.communicate()
    if process.returncode == 0:  # It ended before: what follows begins anew.
      break
  return killed, run(arguments)


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_the_same(data, expected):
  workdir = data.parent / 'killed'
  killed, result = kill_at_random(data, workdir, times=3, seed=0)
  assert killed >= 1
  assert result.returncode == 0, result.stderr
  check_equal(workdir, expected)


@pytest.mark.slow
@pytest.mark.parametrize('seed', range(1, 11))
def test_many_kills(data, expected, seed, tmp_path):
  killed, result = kill_at_random(data, tmp_path / 'run', times=2, seed=seed)
  assert killed >= 1
  assert result.returncode == 0, result.stderr
  check_equal(tmp_path / 'run', expected)


def test_a_damaged_checkpoint_costs_the_time_since_the_one_before(
  data, expected
):
  workdir = data.parent / 'damaged'
  arguments = command(data, workdir)
  process = start(arguments)
  wait_for(workdir / 'checkpoints' / '6', process)
  process.kill()
  process.communicate()
  newest = max(int(p.name) for p in (workdir / 'checkpoints').glob('[0-9]'))
  folder = workdir / 'checkpoints' / f'{newest}'
  named = json.loads((folder / manifest.NAME).read_text())
  path = max((folder / name for name in named), key=lambda p: p.stat().st_size)
  content = bytearray(path.read_bytes())
  content[-1] ^= 1
  path.write_bytes(content)
  result = run(arguments)
  assert result.returncode == 0, result.stderr
  assert f'the checkpoint of step {newest} cannot be trusted' in result.stdout
  assert f'Going on from step {newest - 3}' in result.stdout
  check_equal(workdir, expected)


def test_a_second_run_in_the_folder_is_refused(data):
  workdir = data.parent / 'twice'
  arguments = command(data, workdir)
  process = start(arguments)
  wait_for(workdir / 'config.json', process)
  second = run(arguments)
  process.kill()
  process.communicate()
  assert second.returncode == 2
  assert f'another run is at work here (process {process.pid}' in second.stderr


def test_a_run_that_only_skips_ends_and_names_the_image(
  data, tmp_path, monkeypatch, capsys
):
  """Of the second image, b, no pixel is finite."""

  def with_nan(images, config):
    pool = build_pool(images, config)
    pixels = np.array(pool.pixels)
    pixels[1, ..., 0] = np.nan
    return pool.replace(pixels=jnp.asarray(pixels))

  use_a_line(monkeypatch)
  monkeypatch.setattr(feed, 'build_pool', with_nan)
  workdir = tmp_path / 'run'
  arguments = command(
    data,
    workdir,
    model__maps='foreground',
    decoding__method='components',
    optimizer__average=0.0,
    training__most_skipped=2,
  )
  config = config_flag.parse(arguments[1:], 'quickstart').config
  with pytest.raises(TrainingError) as error:
    loop.train(config, workdir)
  said = str(error.value)
  assert 'of 3 updates in a row was not finite, at step ' in said
  step = int(re.search(r'--replay_step=(\d+)', said)[1])
  assert re.search(rf'at step {step} in sample \d \(of b\)', said)
  assert '(of a)' not in said
  assert 'were skipped' in capsys.readouterr().out
  before = (workdir / 'metrics.jsonl').read_text()
  assert json.loads(before.splitlines()[-1]) == {'step': step, 'skipped': 3}
  replay.replay(config, workdir, step)
  shown = capsys.readouterr().out
  assert f'step {step}: loss nan' in shown
  assert shown.count(', alone: loss') == 4
  assert 'of b, alone: loss nan, gradient norm nan' in shown
  assert 'slope: nan' in shown
  picture = imread(workdir / 'figures' / f'replay_{step}.png')
  assert picture.std() > 10
  assert (workdir / 'metrics.jsonl').read_text() == before


def test_a_run_does_not_go_on_from_other_images(data, tmp_path, monkeypatch):
  use_a_line(monkeypatch)
  monkeypatch.setattr(results, 'write_figures', lambda *_: None)
  path = tmp_path / 'set'
  shutil.copytree(data, path)
  write_folder(path / 'test', ['d'])
  workdir = tmp_path / 'run'
  arguments = command(
    path,
    workdir,
    model__maps='foreground',
    decoding__method='components',
    training__steps=2,
    training__evaluate_every=2,
  )
  config = config_flag.parse(arguments[1:], 'quickstart').config
  loop.train(config, workdir)
  for change in ('train/labels/b.tif', 'validation/images/c.tif'):
    before = (path / change).read_bytes()
    pixels = imread(path / change)
    pixels[pixels == pixels.max()] -= 1
    formats.write_labels(path / change, pixels)
    refused = f'holds a run on other files: {change} is changed; put'
    with pytest.raises(ProvenanceError, match=refused):
      loop.train(config, workdir)
    with pytest.raises(ProvenanceError, match=refused):
      replay.replay(config, workdir, 1)
    (path / change).write_bytes(before)
  # What the run does not read may change.
  shutil.rmtree(path / 'test')
  loop.train(config, workdir)


@pytest.mark.slow
def test_an_update_of_a_healthy_run_is_shown_as_it_was(data, expected):
  _, workdir = expected
  shown = run([*command(data, workdir), '--replay_step=8'])
  assert shown.returncode == 0, shown.stderr
  loss = f'{losses(workdir)[7]:.4f}'
  assert f'step 8: loss {loss}' in shown.stdout
  beyond = run([*command(data, workdir), '--replay_step=13'])
  assert beyond.returncode == 2
  assert '--replay_step must be 1 to 12, found 13' in beyond.stderr
