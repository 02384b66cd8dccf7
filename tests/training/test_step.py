"""One update: its samples, its gradient, and how it is spread and repeated."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
import quick
from tiny_networks import (
  keep_few_blocks,
  LINE,
  random_variables,
  use_a_line,
)
from tiny_sets import cells

from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.pool import Pool
from cellseg_jax.serialization import replace
from cellseg_jax.training import parallel, updates
from cellseg_jax.training.augment import augment
from cellseg_jax.training.examine import examine
from cellseg_jax.training.optimizer import make_optimizer
from cellseg_jax.training.step import (
  draw,
  init_state,
  sample_keys,
  train_step,
  TrainState,
  variables_of,
  variables_to_use,
)

NO_CELL = jnp.zeros((1, 3), jnp.int32)

CONFIG = replace(
  Config(),
  training={'crop_size': 32, 'steps': 40, 'seed': 3},
  optimizer={'warmup_fraction': 0.0},
)


@pytest.fixture(scope='module')
def pool():
  """Two images; the left half of the second weighs nothing."""
  pixels = []
  for seed in range(2):
    image, labels = cells(seed, (40, 48))
    weight = np.where(np.arange(48) < 24 * seed, 0, 1 + 4 * (labels > 0))
    pixels.append(np.dstack([image / 120, labels > 0, weight]))
  sizes = jnp.array([[40, 48], [40, 48]])
  return Pool(
    sizes, jnp.array([0.5, 1.0]), NO_CELL, jnp.float32(np.stack(pixels))
  )


def state_of(variables, optimizer, step=0):
  params = jax.tree.map(jnp.asarray, variables['params'])
  return TrainState(
    step=jnp.int32(step),
    skipped=jnp.int32(0),
    skipped_in_a_row=jnp.int32(0),
    params=params,
    batch_stats=variables.get('batch_stats', {}),
    opt_state=optimizer.init(params),
  )


def step_function(optimizer, batch_size=4, config=CONFIG, **options):
  return functools.partial(
    train_step,
    config=config,
    optimizer=optimizer,
    batch_size=batch_size,
    **options,
  )


def data_of(keys):
  return np.asarray(jax.random.key_data(keys))


def test_a_sample_has_its_own_key_wherever_it_is_drawn():
  whole = data_of(sample_keys(3, 7, np.arange(8)))
  parts = [data_of(sample_keys(3, 7, 4 * d + np.arange(4))) for d in (0, 1)]
  np.testing.assert_array_equal(np.concatenate(parts), whole)
  several = [
    whole,
    *(data_of(sample_keys(*a, np.arange(8))) for a in ((3, 8), (4, 7), (4, 8))),
  ]
  assert len(np.unique(np.concatenate(several), axis=0)) == 32


def test_initial_states_follow_the_seed(monkeypatch):
  monkeypatch.setattr(
    'cellseg_jax.model.fcn.init',
    lambda key, config, channels: {
      'params': jax.random.normal(key, (5,)),
      'batch_stats': {'mean': jnp.zeros(channels)},
    },
  )
  sgd = optax.sgd(1.0)
  state = init_state(CONFIG, sgd)
  assert state.step == 0
  assert state.step.dtype == jnp.int32
  other = init_state(replace(CONFIG, training={'seed': 4}), sgd)
  same = init_state(CONFIG, sgd)
  np.testing.assert_array_equal(same.params, state.params)
  assert (other.params != state.params).all()
  assert set(variables_of(state)) == {'params', 'batch_stats'}
  # Another seed than the samples': the two never share a key.
  assert set(variables_of(state.replace(batch_stats={}))) == {'params'}


def test_the_update_is_the_gradient_of_one_weighted_mean(monkeypatch, pool):
  use_a_line(monkeypatch)
  sgd = optax.sgd(1.0)
  step = quick.jit(step_function(sgd, axis_name=None))
  state, loss = step(state_of(LINE, sgd, step=5), pool, 0)

  keys = sample_keys(CONFIG.training.seed, 5, np.arange(4))
  batch = quick.jit(augment, static_argnums=(2, 3))(
    keys, pool, CONFIG.augmentation, 32
  )
  x = np.asarray(batch.images[..., 0], np.float64)
  y = np.asarray(batch.targets[..., 0], np.float64)
  weights = np.asarray(batch.weights, np.float64)
  before = LINE['params']
  logits = before['slope'] * x + before['offset']
  losses = np.logaddexp(0, logits) - y * logits
  slope = 1 / (1 + np.exp(-logits)) - y
  assert 0 < (weights == 0).mean() < 0.9
  total = weights.sum()
  assert loss == pytest.approx((weights * losses).sum() / total, rel=1e-5)
  changes = jax.tree.map(np.subtract, before, state.params)
  expected = {
    'slope': (weights * slope * x).sum() / total,
    'offset': (weights * slope).sum() / total,
  }
  for name, value in expected.items():
    assert changes[name] == pytest.approx(value, rel=1e-4)
  assert state.step == 6


def test_two_parts_of_a_batch_make_the_update_of_the_whole(monkeypatch, pool):
  """`vmap` names an axis as `pmap` does, on one device."""
  use_a_line(monkeypatch)
  sgd = optax.sgd(0.5)
  start = state_of(LINE, sgd)
  whole, loss = quick.jit(step_function(sgd, 8, axis_name=None))(start, pool, 0)
  halves, losses = quick.jit(
    jax.vmap(
      step_function(sgd, 4, axis_name='parts'),
      (None, None, 0),
      axis_name='parts',
    )
  )(start, pool, jnp.arange(2))
  np.testing.assert_allclose(losses, [loss, loss], rtol=1e-6)
  for name, value in whole.params.items():
    np.testing.assert_allclose(halves.params[name], [value] * 2, rtol=1e-6)
    assert abs(value - LINE['params'][name]) > 1e-3


def test_parts_of_a_batch_agree_in_double_precision(monkeypatch, pool):
  """Batch statistics included; in single precision rounding is amplified."""
  keep_few_blocks(monkeypatch)
  config = replace(CONFIG, model={'width': 0.05})
  sgd = optax.sgd(1.0)
  variables = random_variables(config.model)
  with jax.enable_x64(True):
    start, images = jax.tree.map(
      lambda x: np.float64(x) if x.dtype == np.float32 else x,
      (state_of(variables, sgd), pool),
    )
    whole, loss = quick.jit(step_function(sgd, 4, config, axis_name=None))(
      start, images, 0
    )
    halves, losses = quick.jit(
      jax.vmap(
        step_function(sgd, 2, config, axis_name='parts'),
        (None, None, 0),
        axis_name='parts',
      )
    )(start, images, np.arange(2))
    assert loss.dtype == np.float64
    np.testing.assert_allclose(losses, [loss, loss], rtol=1e-12)
    for found, expected, before in zip(
      jax.tree.leaves((halves.params, halves.batch_stats)),
      jax.tree.leaves((whole.params, whole.batch_stats)),
      jax.tree.leaves((start.params, start.batch_stats)),
      strict=True,
    ):
      scale = np.abs(expected - before).max()
      assert scale > 0
      np.testing.assert_allclose(found[0], expected, atol=1e-8 * scale)


def test_crops_without_a_label_teach_nothing(monkeypatch, pool):
  use_a_line(monkeypatch)
  sgd = optax.sgd(1.0)
  blank = pool.replace(pixels=pool.pixels.at[..., -1].set(0))
  state, loss = quick.jit(step_function(sgd, axis_name=None))(
    state_of(LINE, sgd), blank, 0
  )
  assert loss == 0
  assert state.params == LINE['params']


@pytest.mark.parametrize('calls', [2, 4])
def test_steps_in_one_call_are_steps_in_many(monkeypatch, pool, calls):
  use_a_line(monkeypatch)
  config = replace(CONFIG, augmentation={'flip': False, 'rotate': False})
  optimizer = make_optimizer(CONFIG.optimizer, 40)
  batch = 2 * jax.device_count()
  single = quick.jit(step_function(optimizer, batch, config, axis_name=None))
  expected, losses = state_of(LINE, optimizer), []
  for _ in range(4):
    expected, loss = single(expected, pool, 0)
    losses.append(loss)

  step = step_function(optimizer, 2, config)
  advance = parallel.parallel_steps(step, 4 // calls)
  state = parallel.replicate(state_of(LINE, optimizer))
  on_devices = parallel.replicate(pool)
  found = []
  for _ in range(calls):
    before = state
    state, some = advance(state, on_devices)
    assert some.shape == (4 // calls,)
    found += list(some)
    # The state's memory is given away; the pool's is not.
    assert before.params['slope'].is_deleted()
    assert not on_devices.pixels.is_deleted()
  np.testing.assert_allclose(found, losses, rtol=1e-5)
  assert state.step == 4
  for name, value in expected.params.items():
    assert state.params[name] == pytest.approx(float(value), rel=1e-5)
    assert abs(value - LINE['params'][name]) > 1e-3


def test_a_network_learns_a_crop_by_heart(monkeypatch, pool):
  keep_few_blocks(monkeypatch)
  config = replace(
    CONFIG,
    model={'width': 0.05, 'head_kernel': 32, 'normalization': 'batch'},
    optimizer={'learning_rate': 0.01, 'final_fraction': 1.0},
    augmentation={'roll': False, 'flip': False, 'rotate': False},
  )
  pool = pool.replace(
    sizes=jnp.array([[32, 32], [32, 32]]), bounds=jnp.array([1.0, 1.0])
  )
  optimizer = make_optimizer(config.optimizer, 15)
  variables = random_variables(config.model)
  state = state_of(variables, optimizer)
  step = quick.jit(step_function(optimizer, 2, config, axis_name=None))
  losses = []
  for _ in range(15):
    state, loss = step(state, pool, 0)
    losses.append(float(loss))
  assert losses[-1] < 0.6 * losses[0]
  assert state.step == 15
  moved = jax.tree.map(
    lambda a, b: bool(np.any(a != b)),
    state.batch_stats,
    variables['batch_stats'],
  )
  assert all(jax.tree.leaves(moved))


@pytest.mark.parametrize(
  ('backend', 'most', 'intervals', 'expected'),
  [
    ('cpu', 0, (600, 10, 200, 100), 1),
    ('gpu', 0, (600, 10, 200, 100), 10),
    ('gpu', 0, (600, 20, 200, 100), 20),
    ('gpu', 0, (600, 600, 600, 600), 20),
    ('gpu', 0, (601, 10, 200, 100), 1),
    ('gpu', 7, (600, 30, 300, 60), 6),
    ('cpu', 5, (600, 10, 200, 100), 5),
    ('gpu', 1, (600, 10, 200, 100), 1),
  ],
)
def test_steps_a_call_divide_every_interval(
  monkeypatch, backend, most, intervals, expected
):
  monkeypatch.setattr(jax, 'default_backend', lambda: backend)
  names = ('steps', 'log_every', 'evaluate_every', 'checkpoint_every')
  run = dict(zip(names, intervals, strict=True)) | {'steps_per_call': most}
  assert updates.steps_per_call(replace(Config(), training=run)) == expected


def test_batches_are_shared_equally_or_refused(monkeypatch):
  monkeypatch.setattr(jax, 'device_count', lambda: 4)
  assert parallel.check_batch_size(8) == 2
  with pytest.raises(ConfigError, match=r'batch_size .* 4 devices.* 4 and 8$'):
    parallel.check_batch_size(6)
  with pytest.raises(ConfigError, match=r'found 3; the nearest are 4$'):
    parallel.check_batch_size(3)


def test_a_step_returns_the_types_it_was_given():
  """Else the second step would be compiled anew."""
  config = replace(
    Config(), model={'width': 0.05}, training={'crop_size': 32, 'batch_size': 1}
  )
  optimizer = make_optimizer(config.optimizer, 10)
  state = init_state(config, optimizer)
  pool = Pool(
    jnp.array([[40, 40]]), jnp.ones(1), NO_CELL, jnp.ones((1, 40, 40, 3))
  )
  step = functools.partial(
    train_step, config=config, optimizer=optimizer, batch_size=1
  )
  after, _ = jax.eval_shape(step, state, pool)

  def types(tree):
    return jax.tree.map(lambda x: (x.shape, x.dtype, x.weak_type), tree)

  assert types(after) == types(state)


def test_the_average_follows_the_weights(monkeypatch, pool):
  use_a_line(monkeypatch)
  config = replace(CONFIG, optimizer={'average': 0.5})
  sgd = optax.sgd(0.5)
  step = quick.jit(step_function(sgd, config=config))
  state = init_state(config, sgd)
  assert variables_to_use(state) is state.average
  expected = dict(LINE['params'])
  for number in range(3):
    state, _ = step(state, pool, 0)
    kept = min(0.5, number / (number + 10))
    for name, value in state.params.items():
      expected[name] = kept * expected[name] + (1 - kept) * float(value)
      found = state.average['params'][name]
      assert found == pytest.approx(expected[name], rel=1e-5)
  assert expected['slope'] != pytest.approx(float(state.params['slope']))


def test_without_an_average_the_weights_are_used(monkeypatch):
  use_a_line(monkeypatch)
  state = init_state(CONFIG, optax.sgd(0.5))
  assert state.average == {}
  assert variables_to_use(state) == variables_of(state)


def with_nan(pool):
  """The pool, with a second image that is not finite."""
  pixels = np.array(pool.pixels)
  pixels[1, ..., 0] = np.nan
  return pool.replace(pixels=jnp.asarray(pixels))


def test_an_update_that_is_not_finite_is_skipped_and_counted(monkeypatch, pool):
  use_a_line(monkeypatch)
  optimizer = make_optimizer(CONFIG.optimizer, 100)
  state, pool = state_of(LINE, optimizer), with_nan(pool)
  step = quick.jit(step_function(optimizer, batch_size=1))
  sources = []
  for number in range(12):
    drawn = draw(number, np.arange(1), pool, CONFIG)
    sources.append(int(drawn.sources[0]))
    before, (state, loss) = state, step(state, pool)
    assert int(state.step) == number + 1
    changed = [
      not np.array_equal(one, other)
      for one, other in zip(
        jax.tree.leaves((before.params, before.opt_state)),
        jax.tree.leaves((state.params, state.opt_state)),
        strict=True,
      )
    ]
    assert np.isfinite(loss) == any(changed) == (sources[-1] == 0)
    assert int(state.skipped) == sum(sources)
    in_a_row = 0 if sources[-1] == 0 else int(before.skipped_in_a_row) + 1
    assert int(state.skipped_in_a_row) == in_a_row
  assert 0 < sum(sources) < 12


def test_the_samples_that_are_not_finite_are_named(monkeypatch, pool):
  use_a_line(monkeypatch)
  optimizer = make_optimizer(CONFIG.optimizer, 100)
  found = examine(state_of(LINE, optimizer), with_nan(pool), CONFIG, 1)
  guilty = [not figures.finite for figures in found.alone]
  np.testing.assert_array_equal(guilty, found.batch.sources == 1)
  assert 0 < sum(guilty) < len(guilty)
  assert not found.whole.finite
