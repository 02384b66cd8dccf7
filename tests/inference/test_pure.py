"""Decoding in JAX against the NumPy decoder, SciPy and scikit-image."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
import real_images
from scipy import ndimage
from skimage import measure as skimage_measure
from skimage.morphology import remove_small_holes, remove_small_objects
from skimage.segmentation import expand_labels

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference import confidence as confidence_lib
from cellseg_jax.inference import decode as reference
from cellseg_jax.inference.pure import cells, measure, pixels
from cellseg_jax.inference.pure.decode import decode as pure_decode

decode = quick.jit(pure_decode, static_argnums=1)
regions = quick.jit(pixels.regions, static_argnums=1)
SETTINGS = {
  'threshold': 0.5,
  'centre_share': 0.3,
  'depth': 0.07,
  'confidence': 0.55,
}
CONFIGS = {
  'plain': DecodingConfig(method='ascent', min_area=0, fill_holes=False, rim=0),
  'ascent': DecodingConfig(method='ascent', min_area=12, rim=2),
  'components': DecodingConfig(min_area=12, rim=3),
}


def compare(maps, config, **changes):
  """Decodes both ways, and returns the labels."""
  names = reference.DECODERS[config.method].candidates
  settings = {n: np.float32((SETTINGS | changes)[n]) for n in names}
  maps = {name: np.asarray(m, np.float32) for name, m in maps.items()}
  expected = reference.decode(
    maps, config, {name: float(value) for name, value in settings.items()}
  )
  found, number = decode(maps, config, settings)
  assert found.dtype == jnp.int32
  np.testing.assert_array_equal(found, expected)
  assert number == expected.max(initial=0)
  return expected


def landscape(seed, shape, *, levels=0, sigma=2.0):
  """Hills in islands; with `levels`, terraces: plateaus and equal peaks."""
  random = np.random.default_rng(seed)

  def hills(width):
    values = ndimage.gaussian_filter(random.standard_normal(shape), width)
    values -= values.min()
    values /= max(values.max(), 1e-9)
    return np.round(values * levels) / levels if levels else values

  return {
    'foreground': hills(sigma + 1),
    'distance': hills(sigma),
    'centre': hills(sigma),
  }


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('levels', [0, 5, 20])
def test_random_landscapes_ties_and_plateaus(name, levels):
  most = 0
  for seed in range(6):
    maps = landscape(seed, (70, 91), levels=levels)
    most = max(most, compare(maps, CONFIGS[name], confidence=0.3).max())
  assert most > 5


def test_noise_of_single_pixels():
  random = np.random.default_rng(0)
  names = ('foreground', 'distance', 'centre')
  for levels in (3, 1000):
    maps = {n: random.integers(0, levels, (70, 91)) / levels for n in names}
    for name, config in CONFIGS.items():
      assert compare(maps, config, confidence=0.0).max() > 1, name


@pytest.mark.parametrize('name', CONFIGS)
@pytest.mark.parametrize('shape', [(1, 1), (31, 5), (1, 40)])
def test_images_of_any_shape(name, shape):
  for seed in range(3):
    compare(landscape(seed, shape), CONFIGS[name], confidence=0.1)
  for value in (0.0, 1.0):
    maps = {n: np.full(shape, value) for n in landscape(0, shape)}
    labels = compare(maps, CONFIGS[name])
    # An image of few pixels is a cell too small.
    assert labels.max() in (0, value)


def test_unsure_cells_are_dropped_at_every_confidence():
  maps = landscape(3, (70, 91))
  counts = [
    compare(maps, CONFIGS['ascent'], confidence=least).max()
    for least in (0.0, 0.2, 0.4, 0.5, 0.6, 0.8)
  ]
  assert counts[0] > counts[2] > counts[-1]


@pytest.mark.parametrize('min_area', [5, 70, 100])
def test_rings_specks_and_cells_within(min_area):
  picture = np.zeros((70, 91))
  picture[3:20, 3:20] = 1  # A ring of 64 pixels around a cell of 11 x 11.
  picture[4:19, 4:19] = 0
  picture[6:17, 6:17] = 1
  picture[25:40, 25:40] = 1  # One with a speck in it,
  picture[27:38, 27:38] = 0
  picture[31, 31] = 1
  picture[50:60, 50:60] = 1  # one with a hole open at a corner,
  picture[58, 58] = picture[59, 59] = 0
  picture[0:9, 60:70] = 1  # and one at the border.
  picture[0:4, 63:66] = 0
  for rim in (0, 2):
    config = DecodingConfig(min_area=min_area, rim=rim)
    compare({'foreground': picture}, config)


@pytest.mark.parametrize('name', ['foreground', 'distance', 'centre'])
def test_pixels_that_are_nan_are_background(name):
  maps = {n: np.float32(m) for n, m in landscape(1, (70, 91)).items()}
  row = np.argmax((compare(maps, CONFIGS['plain']) > 0).sum(1))
  maps[name][row] = np.nan
  settings = {k: np.float32(v) for k, v in SETTINGS.items()}
  found = decode(maps, CONFIGS['plain'], settings)[0]
  maps[name][row] = 0
  maps['foreground'][row] = 0
  expected = reference.decode(maps, CONFIGS['plain'], settings)
  np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize('steps', [pixels.SIDES, pixels.AROUND])
def test_regions_are_those_of_scipy(steps):
  structure = np.ones((3, 3)) if len(steps) == 8 else None
  random = np.random.default_rng(0)
  pictures = [random.random((70, 91)) < share for share in (0.3, 0.55, 0.9)]
  spiral = np.zeros((70, 91), bool)
  for i in range(0, 34, 2):
    spiral[i : 70 - i, i] = spiral[i : 70 - i, 90 - i] = True
    spiral[i, i : 91 - i] = spiral[69 - i, i + 2 : 91 - i] = True
  for picture in [*pictures, spiral, picture_of(False), picture_of(True)]:
    found = np.asarray(regions(picture, steps))
    expected, count = ndimage.label(picture, structure)
    first = np.unique(expected.ravel(), return_index=True)[1]
    first = first[-count:] if count else first[:0]
    names = np.append(-1, first)[expected]
    np.testing.assert_array_equal(np.where(picture, found, -1), names)


def picture_of(value):
  return np.full((70, 91), value)


def random_labels(seed=0, shape=(60, 77), count=9):
  return np.random.default_rng(seed).integers(0, count + 1, shape, np.int32)


def check_measurements(labels, maps):
  """Against scikit-image, and the confidence of the host."""
  count = int(labels.max()) + 3  # The last three are absent.
  found = quick.jit(measure.measure, static_argnums=1)(labels, count)
  props = skimage_measure.regionprops(labels)
  present = np.array([one.label - 1 for one in props])
  np.testing.assert_array_equal(found.area[present], [p.area for p in props])
  np.testing.assert_array_equal(found.box[present], [p.bbox for p in props])
  np.testing.assert_allclose(
    found.centroid[present], [p.centroid for p in props], rtol=1e-6, atol=1e-5
  )
  absent = np.setdiff1d(np.arange(count), present)
  for values in found:
    assert (np.asarray(values)[absent] == 0).all()
  sure = quick.jit(measure.confidence, static_argnums=2)(
    labels, maps, count + 1
  )
  expected = confidence_lib.confidence(labels, maps)
  np.testing.assert_allclose(sure[1 : 1 + expected.size], expected, rtol=3e-7)


def test_measurements_are_those_of_scikit_image():
  labels = random_labels()
  labels[labels == 4] = 0
  maps = landscape(0, labels.shape)
  maps = {name: np.float32(values) for name, values in maps.items()}
  check_measurements(labels, maps)
  check_measurements(labels, {'foreground': maps['foreground']})


def test_the_confidence_of_certain_pixels_is_one():
  labels = np.ones((300, 300), np.int32)
  ones = np.ones(labels.shape, np.float32)
  sure = measure.confidence(labels, {'foreground': ones}, 3)
  assert sure.tolist() == [0, 1, 0]


@real_images.needed
@pytest.mark.parametrize('name', CONFIGS)
def test_cells_of_real_images(name):
  total = 0
  for maps in real_images.maps():
    total += compare(maps, CONFIGS[name], confidence=0.5).max()
  assert total > 60


@real_images.needed
def test_regions_and_filters_of_real_images():
  size = real_images.SIZE[0] * real_images.SIZE[1]

  @quick.jit
  def filtered(inside):
    name = cells.first_places(inside, pixels.regions(inside, pixels.SIDES))
    kept = cells.kept(name, cells.area(name) >= 40)
    labels = [cells.numbered(one)[0] for one in (name, kept)]
    filled = cells.numbered(cells.fill_holes(name)[0])[0]
    return *labels, filled, cells.grown(labels[1], 3)

  for maps in real_images.maps():
    inside = maps['foreground'] > 0.6
    plain, kept, filled, grown = map(np.asarray, filtered(inside))
    np.testing.assert_array_equal(
      plain, skimage_measure.label(inside, connectivity=1)
    )
    expected = remove_small_objects(plain, max_size=39)
    np.testing.assert_array_equal(kept > 0, expected > 0)
    # All but those that hold a cell: of them `clean` has its own tests.
    holes = remove_small_holes(inside, max_size=size, connectivity=2)
    new = (filled > 0) & ~inside
    assert (holes[new]).all()
    np.testing.assert_array_equal(grown > 0, expand_labels(kept, 3) > 0)


@real_images.needed
def test_measurements_of_real_images():
  (_, labels), maps = real_images.corners()[0], real_images.maps()[0]
  check_measurements(labels.astype(np.int32), maps)


def test_many_images_at_once_are_as_alone():
  several = [landscape(seed, (30, 41)) for seed in range(3)]
  stack = {
    name: np.float32([maps[name] for maps in several]) for name in several[0]
  }
  settings = {name: np.float32(value) for name, value in SETTINGS.items()}
  config = CONFIGS['ascent']
  together = quick.jit(
    jax.vmap(lambda maps: pure_decode(maps, config, settings)[0])
  )(stack)
  for found, maps in zip(together, several, strict=True):
    np.testing.assert_array_equal(found, compare(maps, config))
