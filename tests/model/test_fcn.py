"""The network: its size, its head, and what it promises about shapes."""

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from tiny_networks import keep_few_blocks, random_variables, shapes

from cellseg_jax.config import ModelConfig
from cellseg_jax.model import fcn
from cellseg_jax.model.heads import TransposedConvHead


def config(**fields):
  return ModelConfig(**({'width': 0.05, 'normalization': 'none'} | fields))


def count(variables):
  return sum(v.size for v in jax.tree.leaves(variables))


def noise(*shape, seed=0):
  rng = np.random.default_rng(seed)
  return rng.normal(size=shape).astype(np.float32)


def run(config, variables, images):
  compiled = quick.jit(fcn.apply, static_argnums=0)
  return np.asarray(compiled(config, variables, images))


def test_the_body_has_googlenets_parameters():
  """5,973,552; with its classifier of 1000 classes the 6,998,552 known."""
  params = shapes(config(width=1.0), channels=3)['params']
  assert count(params['body']) == 5_973_552
  classifier = 1024 * 1000 + 1000
  assert count(params['body']) + classifier == 6_998_552
  assert count(params['head']) == 1024 * 64 * 64 + 1


def test_channels_of_the_image_change_the_stem_alone():
  one, five = (
    shapes(config(width=1.0), channels)['params'] for channels in (1, 5)
  )
  assert count(five) - count(one) == 4 * 7 * 7 * 64
  assert five['body']['conv1']['kernel'].shape == (7, 7, 5, 64)
  assert one['head'] == five['head']


def test_batch_normalisation_holds_scale_shift_and_statistics():
  plain = shapes(config(width=1.0))
  batch = shapes(config(width=1.0, normalization='batch'))
  assert set(plain) == {'params'}
  assert set(batch) == {'params', 'batch_stats'}
  biases = count(batch['batch_stats']) // 2
  assert count(batch['params']) == count(plain['params']) + biases


def test_local_response_normalisation_has_no_parameters():
  assert shapes(config(normalization='lrn')) == shapes(config())


def test_the_width_multiplies_every_channel_count():
  assert [fcn.scaled(c, 0.5) for c in (64, 16, 24, 208, 8)] == [
    32,
    8,
    16,
    104,
    8,
  ]
  assert [fcn.scaled(c, 1.0) for c in (64, 24, 208)] == [64, 24, 208]
  half = shapes(config(width=0.5))['params']
  full = shapes(config(width=1.0))['params']
  assert half['head']['kernel'].shape == (512, 2, 2, 32, 32)
  assert half['body']['conv2']['kernel'].shape == (3, 3, 32, 96)
  assert 0.24 < count(half['body']) / count(full['body']) < 0.28


def published(x, kernel):
  """The transposed convolution that JAX has, from the head's kernel."""
  c, m, _, stride, _ = kernel.shape
  taps = kernel.transpose(1, 3, 2, 4, 0).reshape(m * stride, m * stride, c, 1)
  return lax.conv_transpose(
    x,
    taps[::-1, ::-1],  # JAX correlates; a transposed convolution does not.
    (stride, stride),
    'SAME',
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )


@pytest.mark.parametrize('size', [32, 64, 96])
def test_the_head_is_a_transposed_convolution(size):
  x = noise(2, 3, 2, 3)
  kernel = noise(3, size // 32, size // 32, 32, 32, seed=1)
  head = TransposedConvHead(size)
  params = {'kernel': kernel, 'bias': np.float32(0.5)}
  result = quick.jit(head.apply)({'params': params}, x)
  assert result.shape == (2, 96, 64, 1)
  np.testing.assert_allclose(result, published(x, kernel) + 0.5, atol=1e-4)


def initial_head(channels, size, head_init):
  """The variables that `fcn.init` gives a head of so many input channels."""
  model = config(width=channels / 1024, head_kernel=size, head_init=head_init)
  variables = fcn.init.__wrapped__(jax.random.key(0), model, 1)
  head = variables['params']['head']
  # The narrowest network has 32 channels there.
  return {'params': head | {'kernel': head['kernel'][:channels]}}


@pytest.mark.parametrize('size', [64, 96, 128])
def test_the_bilinear_head_interpolates(size):
  """A constant stays one, and a ramp a ramp, away from the border."""
  head = TransposedConvHead(size)
  x = jnp.ones((1, 6, 6, 3))
  variables = initial_head(3, size, 'bilinear')
  apply = quick.jit(head.apply)
  constant = np.asarray(apply(variables, x))[0, 64:-64, 64:-64, 0]
  value = float(constant[0, 0])
  assert abs(value) > 0.01
  np.testing.assert_allclose(constant, value, rtol=1e-4)
  ramp = x * jnp.arange(6.0)[:, None, None]
  rows = (np.arange(64, 128) + 0.5) / 32 - 0.5
  np.testing.assert_allclose(
    apply(variables, ramp)[0, 64:-64, 70, 0], value * rows, rtol=1e-3
  )


def test_random_initial_heads_keep_the_variance():
  x = noise(4, 4, 4, 64)
  for size in (32, 64):
    head = TransposedConvHead(size)
    result = quick.jit(head.apply)(initial_head(64, size, 'random'), x)
    inner = np.asarray(result)[:, 32:-32, 32:-32]
    assert inner.std() == pytest.approx(1, abs=0.2)


@pytest.mark.parametrize('size', [(1, 1), (31, 33), (32, 64), (40, 1), (7, 70)])
def test_any_size_is_given_back(size):
  images = jax.ShapeDtypeStruct((2, *size, 3), jnp.float32)
  logits = jax.eval_shape(
    lambda v, x: fcn.apply(config(), v, x), shapes(config(), 3), images
  )
  assert logits.shape == (2, *size, 1)
  assert logits.dtype == jnp.float32


def test_other_sizes_are_mirrored_up_to_the_stride(monkeypatch):
  keep_few_blocks(monkeypatch)
  variables = random_variables(config())
  image = noise(1, 40, 50, 1)
  around = [(0, 0), (0, 24), (0, 14), (0, 0)]
  whole = run(config(), variables, np.pad(image, around, mode='symmetric'))
  np.testing.assert_allclose(
    run(config(), variables, image), whole[:, :40, :50], atol=1e-4
  )
  assert whole.std() > 0.1


def test_every_parameter_is_in_use():
  variables = random_variables(config(head_kernel=32))

  def loss(variables, images):
    logits, _ = fcn.apply_train(config(head_kernel=32), variables, images)
    return jnp.sum(logits * noise(1, 64, 64, seed=5))

  gradient = quick.jit(jax.grad(loss))(variables, noise(1, 64, 64, 1))
  flat, _ = jax.tree_util.tree_flatten_with_path(gradient)
  unused = [jax.tree_util.keystr(p) for p, g in flat if not np.abs(g).max() > 0]
  assert len(flat) == 2 * (3 + 9 * 4) + 2
  assert unused == []


def test_normalisations_differ(monkeypatch):
  keep_few_blocks(monkeypatch)
  variables = random_variables(config())
  image = 20 * noise(1, 32, 32, 1)
  plain = run(config(), variables, image)
  response = run(config(normalization='lrn'), variables, image)
  assert np.abs(response - plain).max() > 0.01 * np.abs(plain).max()


def test_batch_statistics_are_the_batchs_in_training_alone(monkeypatch):
  keep_few_blocks(monkeypatch)
  model = config(normalization='batch', batch_norm_momentum=0.75)
  variables = random_variables(model)
  one, other, third = noise(3, 32, 32, 1)
  pairs = np.stack([one, other]), np.stack([one, 3 * third])
  left, right = (run(model, variables, pair)[0] for pair in pairs)
  np.testing.assert_array_equal(left, right)

  train = quick.jit(fcn.apply_train, static_argnums=0)
  (left, moved), (right, _) = (train(model, variables, p) for p in pairs)
  assert np.abs(left[0] - right[0]).max() > 0.01
  # The running mean goes a quarter of the way to the batch's.
  before = variables['batch_stats']['body']['conv1']
  after = moved['body']['conv1']
  kernel = variables['params']['body']['conv1']['kernel']
  response = lax.conv_general_dilated(
    pairs[0],
    kernel,
    (2, 2),
    [(3, 3), (3, 3)],
    dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
  )
  name = 'Normalize_0'
  old = before[name]['BatchNorm_0']['mean']
  new = after[name]['BatchNorm_0']['mean']
  expected = 0.75 * old + 0.25 * response.mean((0, 1, 2))
  np.testing.assert_allclose(new, expected, atol=1e-5)


def test_without_batch_normalisation_there_are_no_statistics(monkeypatch):
  keep_few_blocks(monkeypatch)
  images = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
  _, statistics = jax.eval_shape(
    lambda v, x: fcn.apply_train(config(), v, x), shapes(config()), images
  )
  assert statistics == {}


def test_the_skip_head_sees_single_pixels():
  """One pixel changed at the input changes the logits right there most."""
  config = ModelConfig(width=0.05, head='skips', normalization='none')
  variables = fcn.init(jax.random.key(0), config, 1)
  image = jax.random.uniform(jax.random.key(1), (1, 64, 96, 1))
  changed = image.at[0, 33, 50, 0].add(5.0)
  change = jnp.abs(
    fcn.apply(config, variables, changed) - fcn.apply(config, variables, image)
  )[0, ..., 0]
  assert change.shape == (64, 96)
  row, column = jnp.unravel_index(change.argmax(), change.shape)
  assert abs(int(row) - 33) <= 8
  assert abs(int(column) - 50) <= 8


def test_the_skip_head_takes_any_size():
  maps = 'foreground,distance,centre'
  config = ModelConfig(width=0.05, head='skips', maps=maps)
  variables = fcn.init(jax.random.key(0), config, 1)
  logits = fcn.apply(config, variables, jnp.ones((2, 31, 5, 1)))
  assert logits.shape == (2, 31, 5, 3)


@pytest.mark.parametrize('head', ['transposed', 'skips'])
def test_folded_statistics_compute_what_batch_normalisation_does(head):
  model = config(normalization='batch', head=head, width=0.1)
  variables = random_variables(model)
  images = noise(2, 64, 96, 1)
  unfolded = quick.jit(fcn.FCN(model).apply)(variables, images)
  scale = np.abs(unfolded).max()
  np.testing.assert_allclose(
    run(model, variables, images), unfolded, atol=1e-5 * scale
  )


@pytest.mark.parametrize('head', ['transposed', 'skips'])
def test_half_precision_is_nearly_full_precision(head):
  model = config(normalization='batch', head=head, width=0.1)
  half = config(normalization='batch', head=head, width=0.1, compute='bfloat16')
  variables = random_variables(model)
  images = noise(2, 64, 64, 1)
  exact, rough = (run(each, variables, images) for each in (model, half))
  assert rough.dtype == np.float32
  error = np.sqrt(np.mean((rough - exact) ** 2) / np.mean(exact**2))
  assert 1e-4 < error < 0.05
  train = quick.jit(fcn.apply_train, static_argnums=0)
  (_, exact), (logits, rough) = (
    train(each, variables, images) for each in (model, half)
  )
  assert logits.dtype == jnp.float32
  assert {leaf.dtype for leaf in jax.tree.leaves(rough)} == {
    jnp.dtype('float32')
  }
  # Deeper ones are those of few values here, and amplify.
  exact, rough = (
    tree['body']['conv1']['Normalize_0']['BatchNorm_0']['var']
    for tree in (exact, rough)
  )
  np.testing.assert_allclose(rough, exact, rtol=0.01)
