"""A model as a pytree, and prediction as a pure function of raw pixels."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from tiny_networks import (
  keep_few_blocks,
  LINE,
  random_variables,
  use_a_line,
)
from tiny_sets import cells

from cellseg_jax.config import Config
from cellseg_jax.images import normalize
from cellseg_jax.inference import predict as predict_lib
from cellseg_jax.inference.predict import Model
from cellseg_jax.model import fcn
from cellseg_jax.serialization import replace

SIZE = (40, 52)

# Compiled as the function it stands in is: here, quickly.
predict = quick.jit(predict_lib.predict)


@pytest.fixture
def _line(monkeypatch):
  # Compiled code is kept by the model's structure: a line is no network's.
  use_a_line(monkeypatch)


line = pytest.mark.usefixtures('_line')


def line_model(**parts):
  config = replace(Config(), **parts)
  return Model(LINE, {'threshold': jnp.float32(0.6)}, config)


def image(seed=0, shape=SIZE):
  return cells(seed, shape)[0]


@quick.jit
def logits(image):
  """What the line makes of one raw image, in its own size."""
  normal = normalize.normalize(
    jnp.float32(image)[..., None], Config().intensity
  )[..., 0]
  return LINE['params']['slope'] * normal + LINE['params']['offset']


def test_prediction_is_normalisation_network_and_sigmoid(monkeypatch):
  keep_few_blocks(monkeypatch)
  config = replace(Config(), model={'width': 0.05}, data={'channels': 2})
  variables = random_variables(config.model, 2)
  raw = np.stack([image(0), image(1)], -1)
  normal = normalize.normalize(jnp.float32(raw), config.intensity)
  apply = quick.jit(fcn.apply, static_argnums=0)
  logits = apply(config.model, variables, normal[None])[..., 0]
  expected = jax.nn.sigmoid(logits)
  found = predict(
    Model(variables, {'threshold': jnp.float32(0.5)}, config), raw
  )
  assert found.shape == SIZE
  assert found.dtype == jnp.float32
  np.testing.assert_allclose(found, expected[0], atol=1e-5)
  assert np.std(found) > 0.01


@line
def test_any_leading_axes():
  model = line_model()
  stack = np.stack([[image(i + 3 * j) for i in range(3)] for j in range(2)])
  found = predict(model, stack)
  assert found.shape == (2, 3, *SIZE)
  # Each image is normalised by itself, here as alone.
  stack[0, 0] *= 2
  np.testing.assert_array_equal(predict(model, stack)[1, 2], found[1, 2])
  np.testing.assert_allclose(
    found[1, 2], jax.nn.sigmoid(logits(stack[1, 2])), atol=1e-6
  )


@line
@pytest.mark.parametrize('kind', [np.uint8, np.uint16, np.int32, np.float64])
def test_numbers_of_any_kind(kind):
  found = predict(line_model(), image().astype(kind))
  assert found.dtype == jnp.float32
  expected = jax.nn.sigmoid(logits(image()))
  np.testing.assert_allclose(found, expected, atol=1e-6)


@line
def test_a_gain_of_the_camera_changes_nothing():
  found = predict(line_model(), np.float32(image()))
  brighter = predict(line_model(), 30 * np.float32(image()) + 200)
  np.testing.assert_allclose(brighter, found, atol=1e-4)


@line
def test_prediction_maps_and_compiles():
  model = line_model()
  stack = np.float32([image(0), image(1)])
  expected = predict(model, stack)
  mapped = jax.vmap(predict_lib.predict, (None, 0))(model, stack)
  np.testing.assert_allclose(mapped, expected, atol=1e-6)
  compiled = jax.jit(lambda m, x: 2 * predict_lib.predict(m, x))(model, stack)
  np.testing.assert_allclose(compiled, 2 * expected, atol=1e-6)


@line
def test_prediction_has_a_gradient_in_pixels_and_weights():
  model = line_model()
  raw = np.float32(image())

  def mean(model, raw):
    return predict_lib.predict(model, raw)[10, 20]

  pixels, weights = quick.jit(jax.grad(mean, argnums=(1, 0)))(model, raw)
  assert pixels.shape == raw.shape
  probability = float(predict(model, raw)[10, 20])
  _, span = normalize.intensity_range(raw[..., None], model.config.intensity)
  # Of the pixel itself; the range moves with other pixels.
  slope = probability * (1 - probability) * 1.5 / float(span[0])
  assert pixels[10, 20] == pytest.approx(slope, rel=0.05)
  weights = weights.variables['params']
  assert weights['offset'] == pytest.approx(
    probability * (1 - probability), rel=1e-3
  )


def test_a_network_passes_gradients_to_pixels(monkeypatch):
  keep_few_blocks(monkeypatch)
  config = replace(Config(), model={'width': 0.05, 'head_kernel': 32})
  model = Model(
    random_variables(config.model), {'threshold': jnp.float32(0.5)}, config
  )
  weight = np.random.default_rng(0).normal(size=(32, 32))
  slopes = quick.jit(
    jax.grad(lambda x: jnp.sum(weight * predict_lib.predict(model, x)))
  )(np.float32(image(shape=(32, 32))))
  assert (slopes != 0).mean() > 0.5


@line
def test_a_model_is_a_pytree_and_compiles_once():
  model = line_model()
  traces = []

  @jax.jit
  def use(model, raw):
    traces.append(1)
    return predict_lib.predict(model, raw).mean() + model.settings['threshold']

  raw = np.float32(image())
  before = use(model, raw)
  other = jax.tree.map(lambda x: x / 2, model)
  assert isinstance(other, Model)
  assert other.config is model.config
  assert use(other, raw) != before
  assert use(line_model(), raw) == before  # An equal config, another object.
  assert len(traces) == 1
  use(line_model(intensity={'noise_floor': 1.0}), raw)
  assert len(traces) == 2
  assert len(jax.tree.leaves(model)) == 3


@line
@pytest.mark.parametrize(
  ('channels', 'shape', 'message'),
  [
    (1, (40,), r'\(\.\.\., H, W\) .* found \(40,\)'),
    (1, (0, 40), r'at least one pixel, found \(0, 40\)'),
    (2, (40, 52), r'\(\.\.\., H, W, 2\) .* found \(40, 52\)'),
    (2, (40, 52, 3), r'\(\.\.\., H, W, 2\) .* found \(40, 52, 3\)'),
    (2, (2, 40, 52), r'\(\.\.\., H, W, 2\) .* found \(2, 40, 52\)'),
    (2, (52, 2), r'found \(52, 2\)'),
  ],
)
def test_other_shapes_are_refused(channels, shape, message):
  model = line_model(data={'channels': channels})
  with pytest.raises(ValueError, match=message):
    predict_lib.predict(model, np.zeros(shape, np.float32))


@line
def test_channels_come_last():
  raw = np.stack([image(0), image(1)], -1)
  found = predict(line_model(data={'channels': 2}), raw)
  alone = [logits(raw[..., i]) for i in range(2)]
  offset = LINE['params']['offset']
  expected = jax.nn.sigmoid(alone[0] + alone[1] - offset)
  np.testing.assert_allclose(found, expected, atol=1e-5)


@line
@pytest.mark.parametrize('shape', [(41, 53), (40, 52), (7, 1)])
@pytest.mark.parametrize('factor', [0.5, 1.5])
def test_resampling_is_undone(shape, factor):
  rows = np.linspace(0, 1, shape[0], dtype=np.float32)[:, None]
  raw = np.broadcast_to(rows, shape)
  found = predict(line_model(data={'resample': factor}), raw)
  assert found.shape == shape
  plain = predict(line_model(), raw)
  inner = slice(2, -2)
  np.testing.assert_allclose(found[inner], plain[inner], atol=0.03)


def test_turns_average_over_flips_and_quarter_turns(monkeypatch):
  keep_few_blocks(monkeypatch)
  maps = 'foreground,distance,centre'
  config = replace(
    Config(), model={'width': 0.05, 'head': 'skips', 'maps': maps}
  )
  settings = {'threshold': jnp.float32(0.5)}
  plain = Model(random_variables(config.model), settings, config)
  turning = plain.replace(config=replace(config, decoding={'turns': True}))
  compute = quick.jit(predict_lib.predict_maps)
  raw = image(0, (40, 40))
  found = compute(turning, raw)
  assert set(found) == set(maps.split(','))
  expected = np.zeros((40, 40))
  for turns in range(4):
    for axis in (None, 1):
      turned = np.rot90(raw, turns)
      turned = turned if axis is None else np.flip(turned, axis)
      seen = np.asarray(
        compute(plain, np.ascontiguousarray(turned))['distance']
      )
      seen = seen if axis is None else np.flip(seen, axis)
      expected += np.rot90(seen, -turns) / 8
  np.testing.assert_allclose(found['distance'], expected, atol=1e-5)
  # And so a turned image has turned maps.
  other = compute(turning, np.ascontiguousarray(np.rot90(raw)))
  for name, values in found.items():
    np.testing.assert_allclose(other[name], np.rot90(values), atol=1e-5)


def test_a_compiled_function_returns_the_scale_of_the_model_it_was_given():
  same = quick.jit(lambda model: model)
  for diameter in (20.0, 30.0):
    model = line_model(data={'diameter': diameter})
    assert same(model).config.data.diameter == diameter
