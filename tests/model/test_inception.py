"""The layers of GoogLeNet, each against its plain definition."""

import functools

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

from cellseg_jax.model.inception import (
  Channels,
  ConvRelu,
  Inception,
  local_response_norm,
  max_pool,
  Normalize,
  StemConv,
)

bias = functools.partial(Normalize, batch=False, momentum=0.9, axis_name=None)


def noise(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=shape).astype(np.float32)


def convolve(x, kernel, stride=1, padding='SAME'):
  return lax.conv_general_dilated(
    x,
    kernel,
    (stride, stride),
    padding,
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


@pytest.mark.parametrize(('stride', 'before'), [(1, 1), (2, 0)])
def test_max_pool_is_the_windowed_maximum(stride, before):
  x = noise(2, 6, 8, 3) - 5  # All negative: padding must not win.
  around = (before, 1)
  expected = lax.reduce_window(
    x,
    -jnp.inf,
    lax.max,
    (1, 3, 3, 1),
    (1, stride, stride, 1),
    ((0, 0), around, around, (0, 0)),
  )
  np.testing.assert_array_equal(max_pool(x, stride), expected)


def test_max_pool_of_stride_2_starts_at_its_first_pixel():
  x = jnp.zeros((1, 8, 8, 1)).at[0, 2, 5, 0].set(1.0)
  rows, columns = np.nonzero(max_pool(x, 2)[0, ..., 0])
  assert set(zip(rows.tolist(), columns.tolist(), strict=True)) == {
    (0, 2),
    (1, 2),
  }


def test_local_response_norm_is_the_published_sum():
  x = 30 * noise(1, 2, 3, 8)
  expected = np.empty_like(x)
  for place in np.ndindex(x.shape):
    channel = place[-1]
    near = x[(*place[:-1], slice(max(0, channel - 2), channel + 3))]
    scale = 1 + 1e-4 / 5 * (near.astype(np.float64) ** 2).sum()
    expected[place] = x[place] / scale**0.75
  result = local_response_norm(x)
  np.testing.assert_allclose(result, expected, rtol=1e-5)
  assert abs(result / x - 1).max() > 0.01


@pytest.mark.parametrize('channels', [1, 3])
def test_stem_is_a_7x7_convolution_of_stride_2(channels):
  x = noise(2, 12, 8, channels)
  stem = StemConv(5, bias)
  params = {
    'kernel': noise(7, 7, channels, 5, seed=1),
    'Normalize_0': {'bias': noise(5, seed=2)},
  }
  found = jax.eval_shape(stem.init, jax.random.key(0), x, False)['params']
  assert jax.tree.map(jnp.shape, found) == jax.tree.map(jnp.shape, params)
  expected = convolve(x, params['kernel'], 2, [(3, 3), (3, 3)])
  expected = nn.relu(expected + params['Normalize_0']['bias'])
  result = quick.jit(stem.apply, static_argnums=2)({'params': params}, x, False)
  assert result.shape == (2, 6, 4, 5)
  np.testing.assert_allclose(result, expected, atol=1e-4)


@pytest.mark.parametrize('size', [1, 3, 5])
def test_conv_relu_is_a_convolution_a_bias_and_a_relu(size):
  x = noise(2, 6, 5, 4)
  params = {
    'kernel': noise(size, size, 4, 3, seed=1),
    'Normalize_0': {'bias': noise(3, seed=2)},
  }
  result = ConvRelu(3, size, bias).apply({'params': params}, x, False)
  expected = convolve(x, params['kernel']) + params['Normalize_0']['bias']
  np.testing.assert_allclose(result, nn.relu(expected), atol=1e-4)
  assert (np.asarray(result) == 0).any()


def test_inception_joins_four_branches():
  x = noise(1, 6, 6, 4)
  block = Inception(Channels(2, 3, 4, 5, 6, 7), bias)
  shapes = jax.eval_shape(block.init, jax.random.key(0), x, False)['params']
  rng = np.random.default_rng(3)
  params = jax.tree.map(
    lambda s: rng.normal(size=s.shape).astype(np.float32), shapes
  )
  assert shapes['conv5']['kernel'].shape == (5, 5, 5, 6)

  def conv(x, name, channels=slice(None)):
    layer = params[name]
    shift = layer['Normalize_0']['bias'][channels]
    return nn.relu(convolve(x, layer['kernel'][..., channels]) + shift)

  expected = [
    conv(x, 'pointwise', slice(0, 2)),
    conv(conv(x, 'pointwise', slice(2, 5)), 'conv3'),
    conv(conv(x, 'pointwise', slice(5, 10)), 'conv5'),
    conv(max_pool(x, 1), 'pool'),
  ]
  result = quick.jit(block.apply, static_argnums=2)(
    {'params': params}, x, False
  )
  assert result.shape == (1, 6, 6, 2 + 4 + 6 + 7)
  np.testing.assert_allclose(
    result, jnp.concatenate(expected, -1), rtol=1e-4, atol=1e-3
  )
