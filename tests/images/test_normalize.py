"""Intensity normalisation and resampling against known values."""

import jax
from jax import export
import jax.numpy as jnp
import numpy as np
import pytest
import quick
import real_images

from cellseg_jax.config import IntensityConfig
from cellseg_jax.images.normalize import (
  intensity_range,
  normalize,
  resample,
  resampled_shape,
)

CONFIG = IntensityConfig()
range_of = intensity_range
intensity_range = quick.jit(intensity_range, static_argnums=1)
normalize = quick.jit(normalize, static_argnums=1)


def field(seed=0, shape=(100, 120), noise=5.0, cells=0.0):
  """Noise about 100, and cells brighter by `cells` on a quarter of it."""
  image = np.random.default_rng(seed).normal(100, noise, (*shape, 1))
  image[shape[0] // 4 : 3 * shape[0] // 4, : shape[1] // 2] += cells
  return image.astype(np.float32)


def test_percentiles_of_a_ramp():
  ramp = np.random.default_rng(0).permutation(10001).astype(np.float32)
  config = IntensityConfig(noise_floor=0.0)
  low, span = intensity_range(ramp.reshape(73, 137, 1), config)
  np.testing.assert_allclose(low, [100], rtol=1e-6)
  np.testing.assert_allclose(low + span, [9980], rtol=1e-6)
  wide = IntensityConfig(
    low_percentile=0.0, high_percentile=100.0, noise_floor=0.0
  )
  result = normalize(ramp.reshape(73, 137, 1), wide)
  np.testing.assert_allclose(result.ravel(), ramp / 10000, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize('cells', [0.0, 200.0])
@pytest.mark.parametrize(('gain', 'offset'), [(7.0, 0.0), (0.01, 300.0)])
def test_gain_and_offset_do_not_matter(cells, gain, offset):
  image = field(cells=cells)
  np.testing.assert_allclose(
    normalize(image * gain + offset, CONFIG),
    normalize(image, CONFIG),
    atol=2e-3 if offset else 1e-5,
  )


def test_an_empty_field_is_not_stretched_into_noise():
  empty = np.asarray(normalize(field(), CONFIG))
  assert empty.std() == pytest.approx(1 / CONFIG.noise_floor, rel=0.03)
  unprotected = IntensityConfig(noise_floor=0.0)
  assert np.asarray(normalize(field(), unprotected)).std() > 0.18


def test_a_field_with_cells_spans_0_to_1():
  result = np.asarray(normalize(field(cells=200.0), CONFIG))
  low, high = np.percentile(result, [1, 99.8])
  assert low == pytest.approx(0, abs=1e-5)
  assert high == pytest.approx(1, abs=1e-5)
  assert result.max() > 1  # The brightest are not clipped.


@pytest.mark.parametrize('shape', [(1, 1), (1, 9), (9, 1), (31, 5)])
def test_a_constant_image_is_zero(shape):
  image = np.full((*shape, 1), 7, np.float32)
  np.testing.assert_array_equal(normalize(image, CONFIG), 0 * image)


@pytest.mark.parametrize('shape', [(2, 1), (1, 2), (31, 5), (5, 31), (1, 999)])
def test_odd_shapes(shape):
  image = np.arange(np.prod(shape), dtype=np.float32).reshape(*shape, 1)
  config = IntensityConfig(sample=256, noise_floor=0.0)
  result = np.asarray(normalize(image, config))
  assert result.shape == image.shape
  assert (np.diff(result.ravel()) > 0).all()
  assert np.ptp(result) == pytest.approx(1, abs=0.05)


def test_the_sample_stands_for_the_whole():
  image = field(shape=(1024, 1024), cells=200.0)
  config = IntensityConfig(noise_floor=0.0)
  low, span = intensity_range(image, config)
  exact = np.percentile(image, [1, 99.8])
  np.testing.assert_allclose([low[0], (low + span)[0]], exact, rtol=5e-3)


def test_pixels_off_the_sample_are_not_looked_at():
  image = field(shape=(64, 64), cells=200.0)
  config = IntensityConfig(sample=256)  # Every fourth row and column.
  before = intensity_range(image, config)
  image[2::4] = 1e6
  image[:, 2::4] = 1e6
  np.testing.assert_array_equal(intensity_range(image, config), before)
  image[4, 8] = 1e6
  assert intensity_range(image, config)[1] != before[1]


def test_a_stride_known_when_the_program_runs_gives_the_same():
  config = IntensityConfig(sample=1000)
  rows, columns = export.symbolic_shape('h, w')
  symbolic = export.export(jax.jit(range_of, static_argnums=1))(
    jax.ShapeDtypeStruct((rows, columns, 2), jnp.float32), config
  )
  random = np.random.default_rng(0)
  shapes = [(1, 1), (31, 5), (1, 3000), (2000, 1), (20, 50), (63, 64), (64, 64)]
  for shape in [*shapes, (131, 177)]:
    image = random.gamma(2, 50, (*shape, 2)).astype(np.float32)
    found = symbolic.call(image)
    for one, other in zip(found, range_of(image, config), strict=True):
      np.testing.assert_allclose(one, other, rtol=1e-6, err_msg=str(shape))


@real_images.needed
def test_percentiles_of_real_images_are_those_of_numpy():
  config = IntensityConfig(sample=10**7, noise_floor=0.0)
  for raw, _ in real_images.corners():
    image = np.float32(raw)[..., None]
    low, span = intensity_range(image, config)
    limits = [config.low_percentile, config.high_percentile]
    expected = np.percentile(image, limits)
    # The place among 192000 sorted pixels is a float32, too.
    np.testing.assert_allclose([low[0], low[0] + span[0]], expected, rtol=1e-4)


def test_channels_are_independent():
  one, other = field(0), field(1, cells=900.0)
  both = normalize(np.concatenate([one, other], axis=-1), CONFIG)
  np.testing.assert_allclose(both[..., :1], normalize(one, CONFIG), atol=1e-5)
  np.testing.assert_allclose(both[..., 1:], normalize(other, CONFIG), atol=1e-5)


def test_resampled_shapes():
  assert resampled_shape((100, 61), 0.5) == (50, 30)
  assert resampled_shape((100, 61), 1.0) == (100, 61)
  assert resampled_shape((3, 1), 0.05) == (1, 1)
  assert resampled_shape((10, 11), 1.5) == (15, 16)
  for factor in (0.05, 0.467, 0.999, 1.001, 3.142, 8.0):
    sides = np.arange(1, 9000)
    found = [resampled_shape((int(n), 1), factor)[0] for n in sides]
    exact = np.maximum(sides * factor, 1)
    assert np.abs(found - exact).max() <= 0.5 + 1e-9


def test_resampled_shapes_of_unknown_sizes():
  rows, columns = export.symbolic_shape('h, w')

  def enlarged(image):
    return jnp.zeros(resampled_shape(image.shape, 0.467))

  symbolic = export.export(jax.jit(enlarged))(
    jax.ShapeDtypeStruct((rows, columns), jnp.float32)
  )
  for shape in [(1, 2), (100, 61), (1037, 555)]:
    found = symbolic.call(np.zeros(shape, np.float32)).shape
    assert found == resampled_shape(shape, 0.467)


def test_resampling_to_the_same_shape_changes_nothing():
  image = jnp.asarray(field())
  assert resample(image, image.shape[:2]) is image


@pytest.mark.parametrize('shape', [(20, 30), (17, 80), (90, 41)])
def test_resampling_keeps_a_constant_and_each_channel(shape):
  image = jnp.broadcast_to(jnp.array([3.0, -1.0]), (40, 60, 2))
  expected = np.broadcast_to([3.0, -1.0], (*shape, 2))
  np.testing.assert_allclose(resample(image, shape), expected, atol=1e-5)


def test_halving_keeps_the_places_of_a_ramp():
  """The centre of pixel i of the half lies at 2i + 0.5 of the whole."""
  ramp = jnp.broadcast_to(jnp.arange(40.0)[:, None, None], (40, 8, 1))
  half = np.asarray(resample(ramp, (20, 4)))[..., 0]
  expected = np.broadcast_to(2 * np.arange(20)[:, None] + 0.5, (20, 4))
  np.testing.assert_allclose(half[1:-1], expected[1:-1], atol=1e-4)


def test_shrinking_averages_noise_away():
  image = jnp.asarray(field(shape=(80, 80)))
  assert np.asarray(resample(image, (20, 20))).std() < 5 / 2.5
