"""The weighted loss against its formula."""

import jax
from jax.test_util import check_grads
import numpy as np
import pytest

from cellseg_jax.training.losses import weighted_cross_entropy


def example(seed=0, shape=(2, 5, 4)):
  rng = np.random.default_rng(seed)
  logits = rng.normal(0, 3, (*shape, 1)).astype(np.float32)
  foreground = rng.integers(0, 2, (*shape, 1)).astype(np.float32)
  weights = rng.uniform(0, 5, shape).astype(np.float32)
  return logits, foreground, weights


def test_known_values():
  logits = np.array([[0.0], [0.0], [np.log(3)]], np.float32)
  total, weight = weighted_cross_entropy(
    logits, np.array([[0.0], [1.0], [1.0]]), np.array([1.0, 2.0, 5.0])
  )
  # -log(1/2) three times, and -log(3/4) five times.
  assert total == pytest.approx(3 * np.log(2) + 5 * np.log(4 / 3), rel=1e-6)
  assert weight == 8


def test_matches_the_formula():
  logits, foreground, weights = example()
  probability = 1 / (1 + np.exp(-logits.astype(np.float64)))
  losses = -np.where(
    foreground == 1, np.log(probability), np.log(1 - probability)
  )
  total, weight = jax.jit(weighted_cross_entropy)(logits, foreground, weights)
  assert total == pytest.approx((losses[..., 0] * weights).sum(), rel=1e-5)
  assert weight == pytest.approx(weights.sum(), rel=1e-5)


def test_pixels_of_weight_0_have_no_effect():
  logits, foreground, weights = example()
  weights[0] = 0
  gradient = jax.value_and_grad(lambda *a: weighted_cross_entropy(*a)[0])
  before, slopes = gradient(logits, foreground, weights)
  assert (slopes[0] == 0).all()
  assert (slopes[1] != 0).all()
  logits[0] *= -7
  foreground[0] = 1 - foreground[0]
  after, _ = gradient(logits, foreground, weights)
  assert after == before


def test_a_weight_of_2_is_the_pixel_twice():
  logits, foreground, _ = example()
  ones = np.ones_like(logits[..., 0])
  double = weighted_cross_entropy(logits, foreground, 2 * ones)
  twice = weighted_cross_entropy(
    *(np.concatenate([x, x]) for x in (logits, foreground, ones))
  )
  np.testing.assert_allclose(double, twice, rtol=1e-5)


def test_gradients():
  logits, foreground, weights = example(shape=(3, 2))
  check_grads(
    lambda x: weighted_cross_entropy(x, foreground, weights)[0],
    (logits,),
    order=1,
    rtol=1e-2,
  )


def test_extreme_logits_cost_their_size():
  logits = np.array([[-1e4], [1e4], [1e4], [-1e4]], np.float32)
  foreground = np.array([[1.0], [0.0], [1.0], [0.0]], np.float32)
  total = jax.value_and_grad(
    lambda x: weighted_cross_entropy(x, foreground, np.ones(4))[0]
  )
  value, slopes = total(logits)
  assert value == 2e4
  np.testing.assert_array_equal(slopes[:, 0], [-1, 1, 0, 0])


def test_the_losses_of_several_maps_are_added():
  logits, targets, weights = example()
  total, weight = weighted_cross_entropy(logits, targets, weights)
  soft = np.full_like(targets, 0.3)
  second, _ = weighted_cross_entropy(-logits, soft, weights)
  both = weighted_cross_entropy(
    np.concatenate([logits, -logits], -1),
    np.concatenate([targets, soft], -1),
    weights,
  )
  np.testing.assert_allclose(both, [total + second, weight], rtol=1e-5)
