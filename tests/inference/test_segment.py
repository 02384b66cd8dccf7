"""Labels and scores in one program, under every transformation."""

import os
import subprocess
import sys

import jax
from jax import lax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_networks import LINE, use_a_line
from tiny_sets import cells

import cellseg_jax
from cellseg_jax.config import Config
from cellseg_jax.inference import segment as segment_lib
from cellseg_jax.inference.ensemble import ensemble
from cellseg_jax.inference.on_host import segment_image
from cellseg_jax.inference.predict import Model, predict
from cellseg_jax.inference.segment import segment, segment_with_scores
from cellseg_jax.serialization import replace

SIZE = (40, 52)


@pytest.fixture(autouse=True)
def _line(monkeypatch):
  # Compiled code is kept by the model's structure: a line is no network's.
  use_a_line(monkeypatch)


def line_model(threshold=0.6, **decoding):
  decoding = {'min_area': 5, 'rim': 1} | decoding
  config = replace(Config(), decoding=decoding)
  return Model(LINE, {'threshold': jnp.float32(threshold)}, config)


def image(seed=0):
  return np.float32(cells(seed, SIZE)[0])


def stack():
  """Six images, (2, 3, H, W), with several numbers of cells."""
  images = np.stack([image(seed) for seed in range(6)])
  for number, one in enumerate(images):
    one[:, : 8 * number] = 20
  return images.reshape(2, 3, *SIZE)


def test_labels_are_those_of_the_host():
  model = line_model(rim=0)
  found = segment(model, stack())
  assert found.shape == (2, 3, *SIZE)
  assert found.dtype == jnp.int32
  for index in np.ndindex(2, 3):
    labels, _, _ = segment_image(model, stack()[index])
    np.testing.assert_array_equal(found[index], labels)
    np.testing.assert_array_equal(found[index], segment(model, stack()[index]))
  np.testing.assert_array_equal(found[0, 0] > 0, cells(0, SIZE)[1] > 0)


def test_scores_are_those_of_the_labels():
  model = line_model()
  found = segment_with_scores(model, stack(), max_cells=10)
  np.testing.assert_array_equal(found.labels, segment(model, stack()))
  np.testing.assert_array_equal(found.count, found.labels.max((-2, -1)))
  assert len(np.unique(found.count)) > 1
  assert not found.overflow.any()
  assert found.finite.all()
  assert found.area.shape == (2, 3, 10)
  assert found.centroid.shape == (2, 3, 10, 2)
  assert found.box.shape == (2, 3, 10, 4)
  _, sure, _ = segment_image(model, stack()[1, 0])
  count = int(found.count[1, 0])
  np.testing.assert_allclose(found.confidence[1, 0, :count], sure, rtol=1e-6)
  assert (found.confidence[1, 0, count:] == 0).all()
  mask = np.asarray(found.labels[1, 0]) == 1
  np.testing.assert_allclose(
    found.centroid[1, 0, 0], np.argwhere(mask).mean(0), rtol=1e-6
  )
  assert found.area[1, 0, 0] == mask.sum()


def test_it_compiles_maps_and_scans():
  model, images = line_model(), stack()
  expected = segment(model, images)
  nested = jax.vmap(jax.vmap(segment, (None, 0)), (None, 0))
  for way in (jax.jit(segment), nested, jax.jit(nested)):
    np.testing.assert_array_equal(way(model, images), expected)

  def step(total, frame):
    labels = segment(model, frame)
    return total + labels.max(), labels

  total, found = lax.scan(step, 0, images[0])
  np.testing.assert_array_equal(found, expected[0])
  assert total == expected[0].max((1, 2)).sum()


ON_DEVICES = """
import sys
sys.path[:0] = sys.argv[1:]
import jax, numpy as np, pytest
from test_segment import line_model, image, segment, use_a_line
assert jax.local_device_count() == 3
use_a_line(pytest.MonkeyPatch())
images = np.stack([image(seed) for seed in range(3)])
model = line_model()
found = jax.pmap(segment, in_axes=(None, 0))(model, images)
np.testing.assert_array_equal(found, segment(model, images))
mesh = jax.sharding.Mesh(jax.devices(), ('images',))
spec = jax.sharding.PartitionSpec('images')
placed = jax.device_put(images, jax.sharding.NamedSharding(mesh, spec))
np.testing.assert_array_equal(jax.jit(segment)(model, placed), found)
print('equal on all devices')
"""


def test_it_runs_on_several_devices():
  result = subprocess.run(
    [sys.executable, '-c', ON_DEVICES, *sys.path],
    env={**os.environ, 'JAX_NUM_CPU_DEVICES': '3', 'JAX_PLATFORMS': 'cpu'},
    capture_output=True,
    text=True,
  )
  assert 'equal on all devices' in result.stdout, result.stderr


def test_too_many_cells():
  model, images = line_model(), stack()[:, 0]  # The second has fewer cells.
  whole = segment_with_scores(model, images)
  most = int(whole.count[1])
  assert most < whole.count[0]
  with pytest.raises(
    segment_lib.TooManyCellsError,
    match=f'max_cells={most} cells in 1 of 2 images, .* number 0',
  ):
    segment(model, images, max_cells=most)
  inside = jax.jit(segment_with_scores, static_argnames='max_cells')
  found = inside(model, images, max_cells=most)
  assert found.overflow.tolist() == [True, False]
  assert found.count.tolist() == [most, most]
  # All others stay as they are.
  expected = np.asarray(whole.labels)
  np.testing.assert_array_equal(
    found.labels, np.where(expected <= most, expected, 0)
  )
  np.testing.assert_array_equal(found.area, whole.area[:, :most])
  with pytest.raises(ValueError, match='positive'):
    segment(model, images, max_cells=0)


@pytest.mark.parametrize('value', [np.nan, np.inf])
def test_pixels_that_are_no_numbers(value):
  model, images = line_model(), stack()[0].copy()
  images[1, 3, 4] = value
  with pytest.raises(ValueError, match='NaN or infinite'):
    segment(model, images)
  found = jax.jit(segment_with_scores)(model, images)
  assert found.finite.tolist() == [True, False, True]
  assert (found.labels[1] == 0).all()
  assert found.count[1] == 0
  assert found.count[0] > 0
  assert (found.confidence[1] == 0).all()


def test_no_image_and_a_wrong_shape():
  assert segment(line_model(), np.zeros((0, *SIZE))).shape == (0, *SIZE)
  with pytest.raises(ValueError, match=r'\(\.\.\., H, W\)'):
    segment(line_model(), np.zeros(40))


def test_the_models_threshold_is_followed_without_compiling_again():
  traces = []

  @jax.jit
  def use(model, images):
    traces.append(1)
    return segment(model, images)

  plain = {'min_area': 0, 'rim': 0, 'fill_holes': False}
  for threshold in (0.45, 0.7):
    model = line_model(threshold, **plain)
    probability = np.asarray(predict(model, image()))
    np.testing.assert_array_equal(
      use(model, image()) > 0, probability > np.float32(threshold)
    )
  # Of a run with another seed, and moved to a device.
  other = model.replace(config=replace(model.config, training={'seed': 7}))
  use(jax.device_put(other, jax.devices()[0]), image())
  assert len(traces) == 1
  use(line_model(min_area=6), image())
  assert len(traces) == 2


def test_a_model_can_be_donated_and_placed():
  model = jax.tree.map(jnp.array, line_model())
  mesh = jax.make_mesh((1,), ('all',))
  everywhere = jax.sharding.NamedSharding(mesh, jax.sharding.PartitionSpec())
  placed = jax.device_put(model, everywhere)
  assert placed.variables['params']['slope'].sharding == everywhere
  halve = jax.jit(lambda m: jax.tree.map(lambda x: x / 2, m), donate_argnums=0)
  halved = halve(placed)
  assert isinstance(halved, Model)
  assert halved.variables['params']['slope'] == 0.75
  assert placed.variables['params']['slope'].is_deleted()


def test_a_cells_mean_probability_has_a_gradient():
  model, raw = line_model(), image()
  labels = segment(model, raw)

  def mean(model, raw):
    return jnp.mean(predict(model, raw), where=labels == 1)

  weights, pixels = jax.grad(mean, (0, 1))(model, raw)
  assert isinstance(weights, Model)
  assert weights.variables['params']['slope'] > 0
  # Against the difference that brightening the cell makes.
  inside = np.asarray(labels) == 1
  change = mean(model, raw + 0.1 * inside) - mean(model, raw - 0.1 * inside)
  slope = np.asarray(pixels)[inside].sum()
  assert slope == pytest.approx(float(change) / 0.2, rel=0.02)
  assert slope > 0


def test_an_ensemble_is_segmented_as_on_the_host():
  params = {'slope': jnp.float32(2.0), 'offset': jnp.float32(-0.5)}
  other = line_model().replace(variables={'params': params})
  together = ensemble([line_model(), other])
  labels, _, _ = segment_image(together, image())
  np.testing.assert_array_equal(segment(together, image()), labels)
  assert labels.max() > 3


def test_other_backends_decode_where_the_maps_are(monkeypatch):
  model = line_model()
  expected = segment_image(model, image())
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  found = segment_image(model, image())
  np.testing.assert_array_equal(found[0], expected[0])
  np.testing.assert_array_equal(found[1], expected[1])
  holed = image()
  holed[3, 4] = np.nan
  with pytest.raises(ValueError, match='foreground holds NaN at row 0'):
    segment_image(model, holed)


def test_the_public_names_are_these():
  assert cellseg_jax.predict is predict
  assert cellseg_jax.segment is segment
  assert cellseg_jax.segment_with_scores is segment_with_scores
  assert cellseg_jax.ensemble is ensemble
