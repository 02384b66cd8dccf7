"""The table of a large image is that of the whole."""

import numpy as np
import pytest
from scipy import ndimage

from cellseg_jax.images.cells import measure_cells
from cellseg_jax.inference.filters import filter_blocks, filter_labels, Filters
from cellseg_jax.inference.large_table import measure_large

PIXEL_SIZES = (None, (0.5, 0.5), (0.5, 0.2))


def scene(seed=0, shape=(70, 90)):
  """Blobs of many sizes, labels 1 to n."""
  random = np.random.default_rng(seed)
  picture = ndimage.gaussian_filter(random.standard_normal(shape), 3)
  labels, count = ndimage.label(picture > 0)
  return labels, random.uniform(0, 1, count).astype(np.float32), picture


@pytest.mark.parametrize('block', [16, 37, 200])
@pytest.mark.parametrize('pixel_size', PIXEL_SIZES)
def test_blocks_measure_as_the_whole(block, pixel_size):
  labels, confidence, picture = scene()
  labels = labels * 7  # Not sequential.
  options = {'file': 'a.tif', 'frame': 3, 'pixel_size': pixel_size}
  image = np.stack([picture, -picture], -1)
  whole = measure_cells(labels, image, confidence, **options)
  parts = measure_large(labels, image, confidence, block=block, **options)
  assert list(parts) == list(whole)
  for name, column in whole.items():
    if column.dtype.kind == 'f':
      np.testing.assert_allclose(parts[name], column, rtol=1e-9, atol=1e-6)
    else:
      np.testing.assert_array_equal(parts[name], column, name)


def test_no_cell_is_a_table_without_rows():
  empty = np.zeros((20, 30), np.int32)
  table = measure_large(empty, empty, np.zeros(0), file='a.tif', block=8)
  whole = measure_cells(empty, empty, np.zeros(0), file='a.tif')
  assert list(table) == list(whole)
  assert all(column.shape == (0,) for column in table.values())


@pytest.mark.parametrize(
  'filters',
  [
    Filters(),
    Filters(min_area=60, max_area=300),
    Filters(drop_border=True),
    Filters(min_confidence=0.5, min_area=30),
  ],
)
def test_blocks_are_filtered_as_the_whole(filters):
  labels, confidence, _ = scene(1)
  expected, sure = filter_labels(labels, confidence, filters)
  in_place = labels.copy()
  found = filter_blocks(in_place, confidence, filters, block=23)
  np.testing.assert_array_equal(in_place, expected)
  np.testing.assert_array_equal(found, sure)
  assert filters == Filters() or sure.size < confidence.size
