"""The ascent decoder: by hand, and against scikit-image's watershed."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import h_maxima, reconstruction
from skimage.segmentation import watershed

from cellseg_jax.config import DecodingConfig
from cellseg_jax.images.shape_maps import shape_map
from cellseg_jax.inference.decode import decode

PLAIN = DecodingConfig(method='ascent', min_area=0, fill_holes=False, rim=0)


def separate(maps, settings):
  """The decoder without the filters."""
  return decode(maps, PLAIN, settings)


def row(*heights):
  """Maps of one row whose height is the distance alone."""
  height = np.array([heights], float)
  return {
    'foreground': (height > 0) * 1.0,
    'distance': height,
    'centre': 0 * height,
  }


def settings(depth, share=0.0, threshold=0.5, confidence=0.0):
  return {
    'threshold': threshold,
    'centre_share': share,
    'depth': depth,
    'confidence': confidence,
  }


def landscape(seed=0, shape=(80, 90)):
  """Smooth hills in a foreground of islands, all heights different."""
  random = np.random.default_rng(seed)
  height = ndimage.gaussian_filter(random.standard_normal(shape), 4)
  height = (height - height.min()) / np.ptp(height)
  islands = ndimage.gaussian_filter(random.standard_normal(shape), 8) > -0.01
  return {
    'foreground': islands * 1.0,
    'distance': height,
    'centre': 0 * height,
  }


def partition(labels):
  """The label image with its cells numbered in reading order."""
  _, first, inverse = np.unique(labels, return_index=True, return_inverse=True)
  rank = np.argsort(np.argsort(first))
  return np.where(labels > 0, rank[inverse].reshape(labels.shape) + 1, 0)


def test_a_deep_valley_parts_and_a_shallow_one_does_not():
  hills = row(0.2, 0.9, 0.4, 0.8, 0.1)
  # The pass itself belongs to the higher of its neighbours.
  assert separate(hills, settings(0.3)).tolist() == [[1, 1, 1, 2, 2]]
  assert separate(hills, settings(0.5)).tolist() == [[1, 1, 1, 1, 1]]


def test_background_parts_whatever_the_depth():
  hills = row(0.2, 0.9, 0, 0.8, 0.1)
  assert separate(hills, settings(1.0)).tolist() == [[1, 1, 0, 2, 2]]


def test_a_bump_between_two_cells_joins_one_and_does_not_bridge_them():
  # The bump's passes are shallow on both sides; the hills are deep apart.
  hills = row(0.9, 0.50, 0.40, 0.45, 0.38, 0.50, 0.8)
  found = separate(hills, settings(0.2))
  assert found.max() == 2
  assert found[0, 0] != found[0, -1]


def test_bumps_on_a_slope_join_their_hill():
  hills = row(0.1, 0.3, 0.25, 0.5, 0.45, 0.9, 0.5, 0.55, 0.2)
  assert separate(hills, settings(0.1)).tolist() == [[1] * 9]


def test_unsure_cells_are_dropped_and_the_others_numbered():
  hills = row(0.5, 0.9, 0.1, 0.8, 0.1, 0.7, 0.6)
  hills['foreground'] = np.array([[0.7, 0.7, 0.6, 0.95, 0.9, 0.8, 1.0]])
  hills['centre'] = np.ones((1, 7))
  assert separate(hills, settings(0.3)).max() == 3
  found = separate(hills, settings(0.3, confidence=0.8))
  assert found.max() == 2
  assert (found[0, :2] == 0).all()
  assert (found[0, 3], found[0, -1]) == (1, 2)
  assert (separate(hills, settings(0.3, confidence=0.96)) == 0).all()


def test_level_ground_is_one_cell():
  flat = {
    'foreground': np.ones((7, 9)),
    'distance': np.full((7, 9), 0.5),
    'centre': np.zeros((7, 9)),
  }
  assert (separate(flat, settings(0.1)) == 1).all()


def test_nothing_is_found_in_nothing():
  empty = {name: np.zeros((6, 5)) for name in row(1)}
  assert (separate(empty, settings(0.1)) == 0).all()
  one = row(0.4)
  assert separate(one, settings(0.1)).tolist() == [[1]]


def test_the_share_mixes_the_two_maps():
  maps = row(0.5, 1.0, 0.5, 1.0, 0.5)
  maps['centre'] = np.array([[0.6, 0.8, 1.0, 0.8, 0.6]])
  assert separate(maps, settings(0.2)).max() == 2
  assert separate(maps, settings(0.2, share=1.0)).max() == 1
  assert separate(maps, settings(0.2, share=0.5)).max() == 1


@pytest.mark.parametrize('seed', range(5))
def test_basins_are_those_of_the_watershed(seed):
  maps = landscape(seed)
  inside = maps['foreground'] > 0.5
  found = separate(maps, settings(1e-9))
  height = np.where(inside, maps['distance'], -1.0)
  tops = (height == ndimage.maximum_filter(height, 3)) & inside
  markers, _ = ndimage.label(tops, np.ones((3, 3)))
  flooded = watershed(-maps['distance'], markers, np.ones((3, 3)), mask=inside)
  assert found.max() == markers.max() > 5
  # They share their peaks; the borders between them differ in a few pixels.
  assert (found[markers > 0] == partition_of(found, flooded, markers)).all()
  agree = partition_of(found, flooded, markers, everywhere=True) == found
  assert agree[inside].mean() > 0.9


def partition_of(found, flooded, markers, everywhere=False):
  """The watershed's regions under the names that `found` has at the peaks."""
  name = np.zeros(markers.max() + 1, int)
  name[markers[markers > 0]] = found[markers > 0]
  named = name[flooded]
  return named if everywhere else named[markers > 0]


@pytest.mark.parametrize('seed', range(5))
@pytest.mark.parametrize('depth', [0.05, 0.2])
def test_as_many_cells_as_h_maxima(seed, depth):
  maps = landscape(seed)
  inside = maps['foreground'] > 0.5
  height = np.where(inside, maps['distance'], -1.0)
  # Peaks that rise `depth` above the highest pass to a higher one; those of an
  # island of its own always do.
  lowered = reconstruction(np.where(inside, height - depth, -1), height)
  tops = np.where(inside, height - lowered >= depth - 1e-12, False)
  expected = label(tops & inside, connectivity=2).max()
  islands = label(inside, connectivity=2).max()
  found = separate(maps, settings(depth)).max()
  assert islands <= found
  assert found == expected
  assert h_maxima(height, depth).any()


@pytest.mark.parametrize('turn', [np.fliplr, np.flipud, np.transpose])
def test_a_turned_image_has_turned_cells(turn):
  maps = landscape(3)
  turned = {name: turn(values) for name, values in maps.items()}
  found = separate(maps, settings(0.1))
  np.testing.assert_array_equal(
    partition(turn(found)), partition(separate(turned, settings(0.1)))
  )


@pytest.mark.parametrize('share', [0.25, 0.5, 0.75])
def test_cells_of_any_shape_come_back_from_their_own_maps(share):
  y, x = np.mgrid[:60, :100]
  labels = np.zeros((60, 100), np.int32)
  ring = np.hypot(y - 30, x - 25)
  labels[(ring < 22) & (ring > 14) & ~((y > 30) & (abs(x - 25) < 8))] = 1
  labels[5:12, 50:98] = 2  # Two long cells side by side.
  labels[13:20, 50:98] = 3
  labels[np.hypot(y - 45, x - 75) < 12] = 4
  maps = {name: shape_map(labels, name) for name in ('distance', 'centre')}
  maps['foreground'] = (labels > 0) * 1.0
  found = separate(maps, settings(0.1, share))
  np.testing.assert_array_equal(partition(found), partition(labels))
