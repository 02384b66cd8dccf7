"""Label images from probabilities, by hand and against scikit-image."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import remove_small_objects
from skimage.segmentation import expand_labels

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference import decode as decode_lib

PLAIN = {'min_area': 0, 'fill_holes': False, 'rim': 0}


def decode(picture, threshold=0.5, **filters):
  return decode_lib.decode(
    {'foreground': np.asarray(picture, np.float32)},
    DecodingConfig(**(PLAIN | filters)),
    {'threshold': threshold},
  )


def blobs(seed=0, shape=(120, 150), sigma=3):
  noise = np.random.default_rng(seed).standard_normal(shape)
  smooth = ndimage.gaussian_filter(noise, sigma)
  return ndimage.gaussian_filter(smooth, 1) / smooth.std() * 0.3 + 0.45


def square_ring(size, side):
  """A picture with a closed outline of the given side in its middle."""
  picture = np.zeros((size, size))
  low = (size - side) // 2
  picture[low : low + side, low : low + side] = 1
  picture[low + 1 : low + side - 1, low + 1 : low + side - 1] = 0
  return picture


def test_numbers_cells_in_reading_order():
  labels = decode([[1, 0, 0, 1], [0, 0, 0, 0], [0, 1, 1, 0]])
  assert labels.tolist() == [[1, 0, 0, 2], [0, 0, 0, 0], [0, 3, 3, 0]]
  assert labels.dtype == np.int32


def test_a_pixel_at_the_threshold_is_background():
  assert decode([[0.5, 0.75]]).tolist() == [[0, 1]]


def test_cells_that_meet_at_a_corner_are_two():
  assert decode([[1, 0], [0, 1]]).tolist() == [[1, 0], [0, 2]]


@pytest.mark.parametrize('value', [0, 1])
def test_uniform_pictures(value):
  labels = decode(np.full((9, 7), value), fill_holes=True, rim=2, min_area=5)
  assert np.all(labels == value)


def test_no_setting_is_applied_unasked():
  picture = blobs()
  expected = label(picture > 0.5, connectivity=1)
  np.testing.assert_array_equal(decode(picture), expected)


def test_small_cells_are_dropped_and_the_rest_is_sequential():
  picture = blobs(sigma=1)
  labels = decode(picture, min_area=30)
  kept = remove_small_objects(label(picture > 0.5, connectivity=1), max_size=29)
  np.testing.assert_array_equal(labels > 0, kept > 0)
  assert np.unique(labels).tolist() == list(range(labels.max() + 1))
  assert np.bincount(labels.ravel()).min() >= 30


def test_holes_are_filled_as_scipy_does_where_nothing_lies_in_them():
  picture = blobs(sigma=4)
  holes = np.random.default_rng(0).random(picture.shape) < 0.02
  picture[holes & (ndimage.distance_transform_edt(picture > 0.5) > 2)] = 0
  labels = decode(picture, fill_holes=True)
  plain = decode(picture)
  expected = np.zeros_like(plain)
  for cell in range(1, plain.max() + 1):
    expected[ndimage.binary_fill_holes(plain == cell)] = cell
  assert np.sum(expected != plain) > 20
  np.testing.assert_array_equal(labels, expected)


def test_a_hole_open_at_a_corner_or_at_the_border_is_no_hole():
  corner = [[1, 1, 1, 0], [1, 0, 1, 0], [1, 1, 0, 0], [0, 0, 0, 0]]
  border = [[1, 0, 1], [1, 0, 1], [1, 1, 1]]
  assert decode(corner, fill_holes=True)[1, 1] == 0
  assert decode(border, fill_holes=True)[0, 1] == 0


def test_a_cell_in_a_ring_survives():
  picture = square_ring(15, 11)
  picture[6:9, 6:9] = 1
  labels = decode(picture, fill_holes=True, min_area=9)
  np.testing.assert_array_equal(labels, decode(picture))
  assert labels.max() == 2


def test_a_speck_in_a_hole_is_filled_over():
  picture = square_ring(15, 11)
  picture[7, 7] = 1
  labels = decode(picture, fill_holes=True, min_area=5)
  assert labels.max() == 1
  assert np.sum(labels) == 11**2


def test_a_ring_too_small_frees_the_cell_within():
  picture = square_ring(21, 17)  # 64 pixels around a cell of 11 x 11.
  picture[5:16, 5:16] = 1
  labels = decode(picture, fill_holes=True, min_area=100)
  assert labels.max() == 1
  assert np.sum(labels) == 11**2


def test_area_counts_filled_holes_and_no_rim():
  ring = square_ring(9, 5)  # 16 pixels around 9.
  assert decode(ring, fill_holes=True, min_area=25).max() == 1
  assert decode(ring, fill_holes=True, min_area=26, rim=2).max() == 0
  assert decode(ring, min_area=17).max() == 0


@pytest.mark.parametrize('rim', [1, 2, 5])
def test_the_rim_is_expand_labels(rim):
  picture = blobs(3, sigma=2)
  before = decode(picture, threshold=0.7)
  grown = decode(picture, threshold=0.7, rim=rim)
  expected = expand_labels(before, rim)
  np.testing.assert_array_equal(grown > 0, expected > 0)
  np.testing.assert_array_equal(grown[before > 0], before[before > 0])
  # Where two cells are equally near, either may win: compare distances.
  for cell in np.unique(grown[grown != expected]):
    own = ndimage.distance_transform_edt(before != cell)
    nearest = ndimage.distance_transform_edt(before == 0)
    np.testing.assert_array_equal(own[grown == cell], nearest[grown == cell])


def test_the_rim_never_merges():
  picture = np.zeros((3, 7))
  picture[1, [1, 4]] = 1
  grown = decode(picture, rim=3)
  assert grown[1].tolist() == [1, 1, 1, 2, 2, 2, 2]


def test_refuses_nan_and_wrong_shapes():
  with pytest.raises(ValueError, match='NaN'):
    decode([[0.5, np.nan]])
  with pytest.raises(ValueError, match=r'\(H, W\)'):
    decode(np.zeros((2, 3, 4)))
