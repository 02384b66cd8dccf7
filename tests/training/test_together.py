"""Runs made as one program beside runs made one after another."""

import json
import os
import signal

import jax
from jax.flatten_util import ravel_pytree
import numpy as np
import pytest
import quick
from tiny_networks import keep_few_blocks, random_variables, use_a_line
from tiny_sets import cells, write_folder
from whole_runs import arrays

from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import load_whole
from cellseg_jax.datasets.pool import build_pool, layout_of_some
from cellseg_jax.serialization import replace
from cellseg_jax.studies import runs
from cellseg_jax.training import feed, parallel, results, together
from cellseg_jax.training.interrupts import Interrupted
from cellseg_jax.training.optimizer import make_optimizer
from cellseg_jax.training.record import Record
from cellseg_jax.training.step import draw, state_from
from cellseg_jax.training.updates import TrainingError, update_of

# Of each run its images and its seed; the last one has 32 bits.
RUNS = (('ab', 0), ('ac', 1), ('bc', 2**31 + 5))
CONFIG = replace(
  Config(),
  targets={'gap': 0},
  augmentation={'centred': 0.5},
  model={'width': 0.05, 'head': 'skips'},
  # From 0 the first updates are of full size even where a gradient is nothing
  # but rounding.
  optimizer={
    'warmup_fraction': 0.0,
    'initial_scale': 1.0,
    'learning_rate': 0.01,
    'average': 0.9,
  },
  training={'steps': 4, 'crop_size': 64, 'batch_size': 4},
  decoding={'rim': 0},
)


def labelled(name, seed, shape=(70, 80)):
  image, labels = cells(seed, shape)
  return LabelledImage(name, image, labels.astype(np.int32), labels >= 0)


def of_run(names, seed, config=CONFIG):
  return replace(
    config, data={'train_images': ','.join(names)}, training={'seed': seed}
  )


def of_names(images, names):
  return [image for image in images if image.name in names]


def test_crops_of_some_images_are_those_of_a_pool_of_their_own():
  shapes = ((40, 48), (60, 36), (34, 70))
  images = [labelled(*of) for of in zip('abc', range(3), shapes, strict=True)]
  config = replace(CONFIG, augmentation={'roll': False, 'rotate': False})
  whole, samples = build_pool(images, config), np.arange(20)

  def crops(pool, config, seed=None):
    return draw(
      7, samples, pool, replace(config, training={'crop_size': 16}), seed
    )

  of_any = quick.jit(lambda pool, seed: crops(pool, config, seed))
  for names, seed in RUNS[1:]:
    chosen = np.array([image.name in names for image in images])
    layout = layout_of_some(whole, chosen)
    some = whole.replace(bounds=layout.bounds, cells=layout.cells)
    found = of_any(some, np.uint32(seed))
    alone = of_run(names, seed, config)
    expected = quick.jit(lambda pool, own=alone: crops(pool, own))(
      build_pool(of_names(images, names), config)
    )
    numbers = np.flatnonzero(chosen)
    assert set(found.sources.tolist()) == set(numbers)
    np.testing.assert_array_equal(found.sources, numbers[expected.sources])
    for one, other in zip(found[:3], expected[:3], strict=True):
      np.testing.assert_array_equal(one, other)


def change(state, before):
  """How far training has moved the parameters, as a vector."""
  return ravel_pytree(state.params)[0] - ravel_pytree(before.params)[0]


# Few updates with batch normalisation: over the few pixels of a small network's
# last maps it magnifies what is rounded.
@pytest.mark.parametrize(
  ('normalization', 'count'), [('none', 3), ('batch', 1)]
)
def test_updates_of_several_runs_are_those_of_each(
  monkeypatch, normalization, count
):
  keep_few_blocks(monkeypatch)
  config = replace(CONFIG, model={'normalization': normalization})
  images = [labelled(name, seed) for seed, name in enumerate('abc')]
  optimizer = make_optimizer(config.optimizer, config.training.steps)
  before = [
    state_from(random_variables(config.model, seed=i), config, optimizer)
    for i in range(len(RUNS))
  ]
  seeds = np.array([seed for _, seed in RUNS], np.uint32)
  step = quick.jit(together.mapped(update_of(config)))

  def made(pool):
    """The states after the updates together, and their losses."""
    state = jax.tree.map(lambda *leaves: np.stack(leaves), *before)
    losses = []
    for _ in range(count):
      state, loss = step(state, (pool, seeds), 0)
      losses.append(loss)
    states = [jax.tree.map(lambda x, i=i: x[i], state) for i in range(3)]
    return states, np.stack(losses)

  pool = together.shared_pool([of_run(*run, config) for run in RUNS], images)
  states, losses = made(pool)
  alone = quick.jit(update_of(config))
  for i, (names, _) in enumerate(RUNS):
    expected, own = before[i], build_pool(of_names(images, names), config)
    for loss in losses[:, i]:
      expected, expected_loss = alone(expected, own, 0, seeds[i])
      np.testing.assert_allclose(loss, expected_loss, rtol=1e-5)
    found, wanted = (change(s, before[i]) for s in (states[i], expected))
    # The weights themselves are rounded to 1e-7 of their size.
    assert np.linalg.norm(found - wanted) < 1e-3 * np.linalg.norm(wanted)
    for one, other in zip(
      *map(jax.tree.leaves, (states[i], expected)), strict=True
    ):
      np.testing.assert_allclose(one, other, rtol=1e-5, atol=1e-5)
  # What is not finite in an image is nothing to the run that lacks it.
  pool.pixels[1, ..., 0] = np.nan
  others, _ = made(pool)
  assert [int(state.skipped) > 0 for state in others] == [True, False, True]
  jax.tree.map(np.testing.assert_array_equal, others[1], states[1])


def quickly(step, steps_per_call, streamed):
  """Stands in for `parallel_steps`: compiles quickly."""
  assert not streamed

  @quick.jit
  def advance(state, pool):
    return jax.lax.scan(
      lambda state, _: step(state, pool, 0, axis_name=None),
      state,
      length=steps_per_call,
    )

  return advance


@pytest.fixture
def study(tmp_path, monkeypatch):
  """Makes the runs of a line in folders of a name; returns these."""
  use_a_line(monkeypatch)
  # They take longer than all else.
  monkeypatch.setattr(
    results,
    'write_figures',
    lambda folder, *_: (folder / 'drawn').mkdir(parents=True),
  )
  path = write_folder(tmp_path / 'set', ['a', 'b', 'c'])
  config = replace(
    CONFIG,
    data={
      'dataset': 'labelled_folder',
      'path': str(path),
      'cache': str(tmp_path / 'cache'),
    },
    augmentation={'flip': False, 'rotate': False},
    training={
      'crop_size': 32,
      'batch_size': 1,
      'log_every': 2,
      'checkpoint_every': 2,
      'steps_per_call': 2,
      'most_skipped': 1,
    },
  )
  images = list(load_whole(config.data).train)
  config = runs.resolve_once(config, images, pixel_size=0.0)

  def make(name, chosen=RUNS, as_one=True):
    configs = {
      tmp_path / name / names: runs.config_of_run(config, names, seed)
      for names, seed in chosen
    }
    runs.make_runs(configs, images, as_one)
    return list(configs)

  return make


def written(folder):
  """What a run's folder holds, without the names that are made up."""
  return {
    path.relative_to(folder).as_posix()
    for path in folder.rglob('*')
    if not {'d', 'ocdbt.process_0', 'events'} & set(path.parts)
  }


def steps(folder):
  lines = (folder / 'metrics.jsonl').read_text().splitlines()
  return [line['step'] for line in map(json.loads, lines)]


def weights_are_equal(folder, other, **tolerance):
  for one, two in zip(
    *(arrays(of).values() for of in (folder, other)), strict=True
  ):
    np.testing.assert_allclose(one, two, **tolerance)


def test_folders_of_runs_made_together_hold_what_those_of_each_do(
  study, monkeypatch
):
  with monkeypatch.context() as patch:
    patch.setattr(runs, 'train', lambda *_: pytest.fail('made alone'))
    made = study('together')
    patch.setattr(runs, 'train_together', lambda *_: pytest.fail('made again'))
    study('together')
  alone = study('alone', RUNS[2:], as_one=False)
  for one, other in zip(made[2:], alone, strict=True):
    assert written(one) == written(other)
    for name in ('config.json', '.lock'):
      assert (one / name).read_text() == (other / name).read_text()
    assert steps(one) == steps(other) == [2, 4, 4]
    weights_are_equal(one, other, rtol=1e-5)
    starts = json.loads((one / 'provenance.json').read_text())['starts']
    assert [start['step'] for start in starts] == [0]


def test_runs_that_were_stopped_together_go_on_together(study, monkeypatch):
  def stop(record, step, *rest):
    updates(record, step, *rest)
    if not sent:
      sent.append(os.kill(os.getpid(), signal.SIGTERM))

  sent, updates = [], Record.updates
  monkeypatch.setattr(parallel, 'parallel_steps', quickly)
  with monkeypatch.context() as patch:
    patch.setattr(Record, 'updates', stop)
    with pytest.raises(Interrupted, match='saved at step 2 of 4'):
      study('stopped')
  # That of one alone is finished alone.
  study('stopped', RUNS[:1])
  with monkeypatch.context() as patch:
    patch.setattr(runs, 'train', lambda *_: pytest.fail('made alone'))
    folders = study('stopped')
  for folder in folders:
    assert steps(folder) == [2, 4, 4]
    starts = json.loads((folder / 'provenance.json').read_text())['starts']
    assert [start['step'] for start in starts] == [0, 2]


def test_a_run_that_is_not_finite_ends_the_study_and_all_are_saved(
  study, monkeypatch, tmp_path
):
  def with_nan(images, config):
    pool = build_pool(images, config)
    for place, image in zip(pool.pixels, images, strict=True):
      if image.name == 'c':
        place[..., 0] = np.nan
    return pool

  monkeypatch.setattr(parallel, 'parallel_steps', quickly)
  monkeypatch.setattr(feed, 'build_pool', with_nan)
  monkeypatch.setattr(together, 'build_pool', with_nan)
  with pytest.raises(TrainingError, match=r'/c: the loss .* sample 0 \(of c\)'):
    study('stuck', (*RUNS[:2], ('c', 3)))
  for name in ('ab', 'ac', 'c'):
    assert (tmp_path / 'stuck' / name / 'checkpoints' / '2').is_dir()


def test_runs_are_divided_by_what_they_share_and_by_memory(monkeypatch):
  images = [labelled(name, seed) for seed, name in enumerate('abc')]
  monkeypatch.setattr(together, 'device_memory', lambda: 2**40)

  def divided(config, count=9):
    named = {f'{seed}': of_run('ab', seed, config) for seed in range(count)}
    named['other'] = of_run('ab', 0, replace(config, data={'resample': 0.5}))
    return [set(part) for part in together.groups(named, images)]

  assert divided(CONFIG) == [set('02468'), set('1357'), {'other'}]
  scored = replace(CONFIG, data={'diameter': 9.0}, decoding={'min_area': 9})
  mixed = {'0': of_run('a', 0, scored), '1': of_run('bc', 1)}
  assert together.groups(mixed, images) == [['0', '1']]
  alone = replace(CONFIG, training={'stream': 'always'})
  assert divided(alone, 2) == [{'0'}, {'1'}, {'other'}]
  crops = CONFIG.training.batch_size * CONFIG.training.crop_size**2
  room = 4.5 * together.BYTES_A_PIXEL * crops / together.MOST_OF_MEMORY
  monkeypatch.setattr(together, 'device_memory', lambda: room)
  assert divided(CONFIG, 4) == [set('0123'), {'other'}]
  assert divided(CONFIG, 5) == [set('024'), set('13'), {'other'}]
  monkeypatch.setattr(together, 'device_memory', lambda: 0)
  assert divided(CONFIG, 2) == [{'0'}, {'1'}, {'other'}]


def test_one_gpu_makes_runs_together(monkeypatch):
  assert not together.is_worthwhile(CONFIG)
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  monkeypatch.setattr(jax, 'device_count', lambda: 1)
  assert together.is_worthwhile(CONFIG)
  same_bits = replace(CONFIG, training={'deterministic': True})
  assert not together.is_worthwhile(same_bits)
  monkeypatch.setattr(jax, 'device_count', lambda: 2)
  assert not together.is_worthwhile(CONFIG)
