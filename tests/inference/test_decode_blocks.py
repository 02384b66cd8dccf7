"""Decoding by blocks: the labels of the whole, whatever the blocks."""

import hypothesis
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference.confidence import confidence
from cellseg_jax.inference.decode import decode, decode_blocks
from cellseg_jax.inference.large import decode_large

SETTINGS = {
  'components': {'threshold': 0.5},
  'ascent': {
    'threshold': 0.5,
    'centre_share': 0.25,
    'depth': 0.1,
    'confidence': 0.36,
  },
}
METHODS = pytest.mark.parametrize('method', SETTINGS)
FILTERS = {'min_area': 12, 'fill_holes': True, 'rim': 2}


def landscape(seed=0, shape=(67, 82), sigma=1.7, levels=0):
  """Smooth maps; of few levels there are plateaus and equal peaks."""
  random = np.random.default_rng(seed)

  def smooth():
    values = ndimage.gaussian_filter(random.standard_normal(shape), sigma)
    return np.float32((values - values.min()) / np.ptp(values))

  def terraced():
    return np.round(smooth() * levels) / levels if levels else smooth()

  return {
    'foreground': np.clip(smooth() - 0.02, 0, 1),
    'distance': terraced(),
    'centre': terraced(),
  }


def by_blocks(maps, method, block, **filters):
  """Labels and confidences that decoding by blocks gives."""
  shape = maps['foreground'].shape
  out = np.full(shape, -7, np.int32)  # Every pixel is to be written.
  config = DecodingConfig(method=method, **(FILTERS | filters))
  cells = decode_blocks(
    maps,
    config,
    SETTINGS[method],
    block,
    lambda: np.zeros(shape, np.int32),
  )
  for box, labels in cells.blocks:
    out[box.slices] = labels
  assert cells.number == out.max()
  return out


@METHODS
@pytest.mark.parametrize('seed', range(3))
def test_every_label_is_of_one_piece(method, seed):
  config = DecodingConfig(method=method, **FILTERS)
  labels = decode(landscape(seed), config, SETTINGS[method])
  assert labels.max() > 3
  pieces = label(labels, background=0, connectivity=2)
  assert pieces.max() == labels.max()


def whole(maps, method, **filters):
  config = DecodingConfig(method=method, **(FILTERS | filters))
  return decode(maps, config, SETTINGS[method])


@METHODS
@pytest.mark.parametrize('levels', [0, 3, 6])
@pytest.mark.parametrize(
  'block', [(1, 82), (67, 1), (5, 4), (11, 9), (66, 81), (100, 20)]
)
def test_blocks_of_any_shape_give_the_same_labels(method, levels, block):
  maps = landscape(levels, levels=levels)
  expected = whole(maps, method)
  assert expected.max() > 6
  np.testing.assert_array_equal(by_blocks(maps, method, block), expected)


@METHODS
def test_the_numbers_are_in_reading_order(method):
  plain = {'min_area': 0, 'fill_holes': False, 'rim': 0}
  labels = by_blocks(landscape(4), method, (10, 10), **plain)
  _, first = np.unique(labels[labels > 0], return_index=True)
  assert (np.diff(first) > 0).all()
  assert first.size == labels.max() > 6


@METHODS
@hypothesis.settings(max_examples=35, deadline=None, derandomize=True)
@hypothesis.given(data=st.data())
def test_small_images_of_few_values(method, data):
  """Plateaus, rings, specks, equal peaks, in every arrangement."""
  shape = data.draw(arrays.array_shapes(min_dims=2, max_dims=2, max_side=12))
  values = st.sampled_from([0.25, 0.5, 0.75, 1.0])
  maps = {
    name: data.draw(arrays.arrays(np.float32, shape, elements=values))
    for name in ('foreground', 'distance', 'centre')
  }
  block = data.draw(st.tuples(st.integers(1, 13), st.integers(1, 13)))
  filters = {
    'min_area': data.draw(st.integers(0, 9)),
    'fill_holes': data.draw(st.booleans()),
    'rim': data.draw(st.integers(0, 4)),
  }
  np.testing.assert_array_equal(
    by_blocks(maps, method, block, **filters), whole(maps, method, **filters)
  )


def spiral(size=41):
  """A path one pixel wide that winds to the middle."""
  inside = np.zeros((size, size), bool)
  y = x = 0
  step, length = (0, 1), size - 1
  inside[0, 0] = True
  turns = 0
  while length > 0:
    for _ in range(length):
      y, x = y + step[0], x + step[1]
      inside[y, x] = True
    step = (step[1], -step[0])
    turns += 1
    if turns > 2 and turns % 2:
      length -= 2
  return inside


@METHODS
@pytest.mark.parametrize('slope', [0, 1, -1])
def test_a_path_through_many_blocks_is_one_cell(method, slope):
  inside = spiral()
  height = np.zeros(inside.shape)
  # Along the path the height rises, falls or stays level.
  length = np.cumsum(inside).reshape(inside.shape) / inside.sum()
  height[inside] = 0.5 + 0.04 * slope * length[inside]
  maps = {
    'foreground': np.float32(inside),
    'distance': np.float32(height),
    'centre': np.ones(inside.shape, np.float32),
  }
  labels = by_blocks(maps, method, (4, 5), rim=0, fill_holes=False)
  np.testing.assert_array_equal(labels, inside * 1)


def ring(size=30, width=2):
  picture = np.ones((size, size), np.float32)
  picture[width:-width, width:-width] = 0
  return np.pad(picture, 3)


@pytest.mark.parametrize('block', [(4, 4), (7, 36), (36, 1), (17, 19)])
def test_a_hole_over_many_blocks_is_filled(block):
  picture = ring()
  labels = by_blocks({'foreground': picture}, 'components', block, rim=0)
  assert labels.sum() == 30**2
  picture[3:5, 14] = 0  # A gate in it.
  labels = by_blocks({'foreground': picture}, 'components', block, rim=0)
  assert labels.sum() == picture.sum()


@pytest.mark.parametrize('block', [(4, 4), (9, 36), (36, 1)])
def test_what_lies_in_a_hole_over_many_blocks(block):
  picture = ring()
  picture[10:26, 10:26] = 1
  labels = by_blocks({'foreground': picture}, 'components', block, rim=0)
  assert labels.max() == 2
  np.testing.assert_array_equal(labels > 0, picture > 0)
  # The ring has 224 pixels: without it the cell within is alone.
  labels = by_blocks(
    {'foreground': picture}, 'components', block, rim=0, min_area=225
  )
  assert labels.max() == 1
  assert labels.sum() == 16**2
  # A speck goes, and the ring is full.
  picture[10:26, 10:26] = 0
  picture[16:18, 16:18] = 1
  labels = by_blocks({'foreground': picture}, 'components', block, rim=0)
  assert labels.sum() == 30**2


@METHODS
@pytest.mark.parametrize('with_centre', [True, False])
def test_confidences_are_those_of_the_whole(method, with_centre):
  maps = landscape(7, shape=(90, 71))
  if not with_centre and method == 'components':
    maps = {'foreground': maps['foreground']}
  config = DecodingConfig(method=method, **FILTERS)
  out, found = decode_large(
    maps,
    config,
    SETTINGS[method],
    np.zeros((90, 71), np.uint16),
    block=16,
    new_image=lambda kind: np.zeros((90, 71), kind),
  )
  assert out.dtype == np.uint16
  expected = whole(maps, method)
  np.testing.assert_array_equal(out, expected)
  np.testing.assert_array_equal(found, confidence(expected, maps))
  assert found.dtype == np.float32
  assert found.size > 6


def test_labels_that_do_not_fit_are_refused():
  dots = np.zeros((40, 40), np.float32)
  dots[::2, ::2] = 1
  with pytest.raises(ValueError, match=r'uint8.* 400 cells .*uint32'):
    decode_large(
      {'foreground': dots},
      DecodingConfig(min_area=0),
      {'threshold': 0.5},
      np.zeros((40, 40), np.uint8),
      block=16,
      new_image=lambda kind: np.zeros((40, 40), kind),
    )


def test_nan_is_refused_with_its_place():
  maps = landscape()
  maps['distance'][50, 33] = np.nan
  with pytest.raises(ValueError, match=r'distance .* row 50, column 33'):
    by_blocks(maps, 'ascent', (16, 16))


@pytest.mark.parametrize('shape', [(0, 5), (4, 0)])
def test_an_image_without_pixels_has_no_cells(shape):
  maps = {'foreground': np.zeros(shape, np.float32)}
  assert whole(maps, 'components').shape == shape
