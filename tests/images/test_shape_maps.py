"""Distance and centre maps of cells of known shape."""

import numpy as np
import pytest
from scipy import ndimage

from cellseg_jax.images.shape_maps import centre, distance, shape_map


def disc(radius=15, size=41):
  y, x = np.mgrid[:size, :size] - size // 2
  return np.hypot(y, x) <= radius


def horseshoe():
  """A bent cell whose centroid lies outside it."""
  y, x = np.mgrid[:41, :41] - 20
  ring = (np.hypot(y, x) < 18) & (np.hypot(y, x) > 12)
  return ring & ~((y > 0) & (abs(x) < 6))


def peaks(values, cell):
  """Connected places whose every neighbour in the cell is no higher."""
  inside = np.where(cell, values, -1)
  highest = ndimage.maximum_filter(inside, 3)
  return ndimage.label((inside == highest) & cell, np.ones((3, 3)))[1]


def test_in_a_disc_both_fall_from_1_in_the_middle_to_the_border():
  cell = disc()
  y, x = np.mgrid[:41, :41] - 20
  cone = np.clip(1 - np.hypot(y, x) / 16, 0, 1)
  for values in (distance(cell), centre(cell)):
    assert values.dtype == np.float32
    assert values[20, 20] == values.max() == 1
    assert (values[~cell] == 0).all()
    np.testing.assert_allclose(values[cell], cone[cell], atol=0.1)


def test_a_dumbbell_has_two_peaks_of_distance_and_one_centre():
  cell = np.zeros((30, 70), bool)
  cell[5:25, 5:25] = cell[5:25, 45:65] = True
  cell[12:18, 25:45] = True
  assert peaks(np.round(distance(cell), 2), cell) >= 2
  assert peaks(centre(cell), cell) == 1


def test_a_bent_cell_has_its_centre_inside_and_one_peak():
  cell = horseshoe()
  values = centre(cell)
  assert cell[np.unravel_index(values.argmax(), cell.shape)]
  assert peaks(values, cell) == 1
  # The two ends are near to each other but far along the cell.
  assert values[cell].min() < 0.1
  assert values[cell].argmin() != values[cell].argmax()


def test_a_piece_apart_is_not_reached():
  cell = np.zeros((10, 30), bool)
  cell[2:8, 2:15] = True
  cell[2:5, 20:24] = True
  values = centre(cell)
  assert (values[:, :15][cell[:, :15]] > 0).all()
  assert (values[:, 20:] == 0).all()
  assert np.isfinite(values).all()


@pytest.mark.parametrize('name', ['distance', 'centre'])
def test_a_single_pixel_and_a_full_image(name):
  labels = np.zeros((3, 3), int)
  labels[1, 1] = 1
  np.testing.assert_array_equal(shape_map(labels, name), labels)
  full = shape_map(np.ones((4, 5), int), name)
  assert full.max() == 1
  assert full.min() >= 0


@pytest.mark.parametrize('name', ['distance', 'centre'])
def test_each_cell_has_its_own_map_whatever_its_number(name):
  labels = np.zeros((41, 82), int)
  labels[:, :41][disc()] = 7
  labels[:, 41:][disc()] = 300
  both = shape_map(labels, name)
  alone = shape_map(disc().astype(int), name)
  np.testing.assert_array_equal(both, np.hstack([alone, alone]))
  assert (both[labels == 0] == 0).all()


def test_a_cell_that_the_image_cuts_has_no_border_there():
  labels = np.zeros((20, 20), int)
  labels[5:15, :12] = 1
  values = shape_map(labels, 'distance')
  assert values[9, 0] == pytest.approx(values[9, 5])
  assert values[9, 0] == 1
