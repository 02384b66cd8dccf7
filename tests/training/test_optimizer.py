"""The schedule and the first updates of RMSprop, by hand."""

import jax
import numpy as np
import optax
import pytest

from cellseg_jax.config import OptimizerConfig
from cellseg_jax.training.optimizer import (
  learning_rate_schedule,
  make_optimizer,
)

GRADIENTS = [
  np.array([0.3, -2.0, 0.0]),
  np.array([-0.1, 1.0, 0.5]),
  np.array([0.2, 0.7, -0.4]),
]
START = np.array([1.0, -1.0, 0.5])


def constant(**fields):
  """A configuration whose learning rate is always 0.1."""
  fixed = {'learning_rate': 0.1, 'warmup_fraction': 0.0, 'final_fraction': 1.0}
  return OptimizerConfig(**(fixed | fields))


def positions(config, gradients=GRADIENTS):
  """Where the parameters are after each update."""
  optimizer = make_optimizer(config, steps=100)
  params = np.float32(START)
  state = optimizer.init(params)
  found = []
  for gradient in gradients:
    updates, state = optimizer.update(np.float32(gradient), state, params)
    params = optax.apply_updates(params, updates)
    found.append(np.asarray(params))
  return found


def check(config, expected):
  np.testing.assert_allclose(positions(config), expected, rtol=2e-5, atol=1e-6)


def test_the_rate_rises_to_its_peak_and_falls_to_its_end():
  config = OptimizerConfig(
    learning_rate=0.2, warmup_fraction=10 / 110, final_fraction=0.1
  )
  rate = learning_rate_schedule(config, 110)
  steps = [0, 5, 10, 60, 110, 500]
  expected = [0, 0.1, 0.2, 0.11, 0.02, 0.02]
  np.testing.assert_allclose([rate(s) for s in steps], expected, atol=1e-7)
  # Half a cosine: at a quarter of the way it has fallen by (1 - cos 45°)/2.
  fall = 0.18 * (1 - np.cos(np.pi / 4)) / 2
  assert rate(35) == pytest.approx(0.2 - fall, rel=1e-5)


def test_without_warm_up_the_rate_starts_at_its_peak():
  rate = learning_rate_schedule(
    OptimizerConfig(learning_rate=0.2, warmup_fraction=0.0), 100
  )
  np.testing.assert_allclose([rate(0), rate(100)], [0.2, 0], atol=1e-8)


def test_warm_up_may_fill_the_run():
  rate = learning_rate_schedule(
    OptimizerConfig(learning_rate=0.2, warmup_fraction=1.0), 8
  )
  np.testing.assert_allclose([rate(s) for s in (0, 4, 8)], [0, 0.1, 0.2])


@pytest.mark.parametrize('initial_scale', [0.0, 2.0])
def test_rmsprop(initial_scale):
  config = constant(decay=0.8, eps=0.05, initial_scale=initial_scale)
  square, place, expected = initial_scale, START, []
  for gradient in GRADIENTS:
    square = 0.8 * square + 0.2 * gradient**2
    place = place - 0.1 * gradient / np.sqrt(square + 0.05)
    expected.append(place)
  check(config, expected)


def test_centred_rmsprop():
  config = constant(decay=0.8, eps=0.05, centered=True)
  square, mean, place, expected = 0, 0, START, []
  for gradient in GRADIENTS:
    square = 0.8 * square + 0.2 * gradient**2
    mean = 0.8 * mean + 0.2 * gradient
    place = place - 0.1 * gradient / np.sqrt(square - mean**2 + 0.05)
    expected.append(place)
  check(config, expected)


@pytest.mark.parametrize('nesterov', [False, True])
def test_momentum(nesterov):
  config = constant(decay=0.8, eps=0.05, momentum=0.6, nesterov=nesterov)
  square, trace, place, expected = 0, 0, START, []
  for gradient in GRADIENTS:
    square = 0.8 * square + 0.2 * gradient**2
    scaled = gradient / np.sqrt(square + 0.05)
    trace = scaled + 0.6 * trace
    place = place - 0.1 * (scaled + 0.6 * trace if nesterov else trace)
    expected.append(place)
  check(config, expected)


def test_weight_decay_is_decoupled_from_the_gradient():
  still = [np.zeros(3)] * 3
  found = positions(constant(weight_decay=0.5), still)
  np.testing.assert_allclose(
    found, [START * 0.95**n for n in (1, 2, 3)], rtol=1e-5
  )
  plain, decayed = (
    positions(constant(weight_decay=rate), GRADIENTS[:1])[0]
    for rate in (0.0, 0.5)
  )
  np.testing.assert_allclose(decayed - plain, -0.05 * START, atol=1e-6)


def test_gradients_are_clipped_by_their_global_norm():
  config = constant(decay=0.8, eps=0.05, clip_norm=1.0)
  gradient = np.array([3.0, 0.0, 4.0])  # Of norm 5.
  clipped = gradient / 5
  expected = START - 0.1 * clipped / np.sqrt(0.2 * clipped**2 + 0.05)
  np.testing.assert_allclose(
    positions(config, [gradient])[0], expected, rtol=1e-5
  )
  small = [gradient / 10]
  unclipped = constant(decay=0.8, eps=0.05)
  np.testing.assert_array_equal(
    positions(config, small), positions(unclipped, small)
  )


def test_the_rate_follows_the_count_of_updates():
  config = OptimizerConfig(learning_rate=0.1, warmup_fraction=0.02, eps=1e-12)
  found = positions(config, [np.ones(3)] * 3)
  square = 1 - 0.9 ** np.arange(1, 4)
  steps = np.array([0, 0.05, 0.1]) / np.sqrt(square)
  expected = START - np.cumsum(steps)[:, None]
  np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_updates_compile():
  optimizer = make_optimizer(constant(momentum=0.5, clip_norm=1.0), 10)
  params = {'a': np.ones(3, np.float32), 'b': np.float32(2)}
  state = optimizer.init(params)
  plain = optimizer.update(params, state, params)
  compiled = jax.jit(optimizer.update)(params, state, params)
  jax.tree.map(
    lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5), plain, compiled
  )
