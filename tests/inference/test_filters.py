"""Filters on labels that are not sequential, each by hand and by definition."""

from label_scenes import SCENES
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label as label_pieces
from skimage.segmentation import clear_border

from cellseg_jax.inference.filters import filter_labels, Filters

EIGHT = np.ones((3, 3))


def values(labels):
  return np.array(sorted(set(labels.ravel().tolist()) - {0}))


def confidences(labels):
  return np.linspace(0, 1, values(labels).size)


def filtered(labels, **settings):
  return filter_labels(labels, confidences(labels), Filters(**settings))


def check(labels, expected, **settings):
  """The filters give `expected`, and the confidences of what is left."""
  found, confidence = filtered(labels, **settings)
  np.testing.assert_array_equal(found, expected)
  assert found.dtype == labels.dtype
  left = np.isin(values(labels), expected)
  np.testing.assert_array_equal(confidence, confidences(labels)[left])
  assert not np.array_equal(found, labels)


def only(labels, kept):
  return np.where(np.isin(labels, kept), labels, 0)


def areas(labels):
  return np.array([(labels == value).sum() for value in values(labels)])


@pytest.mark.parametrize('shape', [(0, 5), (5, 0), (0, 0)])
def test_an_empty_image_stays_one(shape):
  labels = np.zeros(shape, np.int32)
  assert filtered(labels)[0].shape == shape


@pytest.mark.parametrize('name', SCENES)
def test_nothing_is_changed_unasked(name):
  labels = SCENES[name]
  found, confidence = filtered(labels)
  np.testing.assert_array_equal(found, labels)
  assert found.dtype == labels.dtype
  np.testing.assert_array_equal(confidence, confidences(labels))


@pytest.mark.parametrize('name', SCENES)
def test_smallest_and_largest_area(name):
  labels = SCENES[name]
  sizes = areas(labels)
  middle = int(np.median(sizes))
  large = values(labels)[sizes >= middle]
  check(labels, only(labels, large), min_area=middle)
  small = values(labels)[sizes <= middle]
  check(labels, only(labels, small), max_area=middle)
  alone = values(labels)[sizes == middle]
  check(labels, only(labels, alone), min_area=middle, max_area=middle)


def test_areas_are_those_of_filled_cells():
  labels = np.zeros((9, 9), np.uint16)
  labels[2:7, 2:7] = 60_000
  labels[3:6, 3:6] = 0  # 16 pixels around 9.
  filled = np.where(np.pad(np.ones((5, 5)), 2) > 0, 60_000, 0)
  for bounds, expected in (
    ({'min_area': 25}, filled),
    ({'min_area': 26}, 0 * filled),
    ({'max_area': 25}, filled),
    ({'max_area': 24}, 0 * filled),
  ):
    found, _ = filtered(labels, fill_holes=True, **bounds)
    np.testing.assert_array_equal(found, expected)
  assert not filtered(labels, min_area=17)[0].any()
  np.testing.assert_array_equal(filtered(labels, max_area=16)[0], labels)


@pytest.mark.parametrize('name', ['blobs', 'tricky'])
def test_a_hole_is_background_that_one_cell_alone_encloses(name):
  labels = SCENES[name].copy()
  random = np.random.default_rng(0)
  labels[random.random(labels.shape) < 0.05] = 0
  expected = labels.copy()
  background, count = ndimage.label(labels == 0, EIGHT)
  for number in range(1, count + 1):
    hole = background == number
    around = set(labels[ndimage.binary_dilation(hole) & ~hole].tolist())
    rows, columns = np.nonzero(np.pad(hole, 1))
    inner = rows.min() > 1 and columns.min() > 1
    inner &= rows.max() < labels.shape[0] and columns.max() < labels.shape[1]
    if inner and len(around) == 1:
      expected[hole] = around.pop()
  check(labels, expected, fill_holes=True)


def test_a_cell_in_a_hole_stays_until_it_is_too_small():
  labels = np.zeros((15, 15), np.int64)
  labels[2:13, 2:13] = 9
  labels[3:12, 3:12] = 0
  labels[6:9, 6:9] = 2**31
  untouched, _ = filtered(labels, fill_holes=True)
  np.testing.assert_array_equal(untouched, labels)
  square = np.pad(np.full((11, 11), 9), 2)
  check(labels, square, fill_holes=True, min_area=10)


@pytest.mark.parametrize('name', SCENES)
def test_the_largest_piece_of_each_cell_is_kept(name):
  labels = SCENES[name].copy()
  labels[-3:-1, 1:3] = values(labels)[-1]  # So that all have a cell in two.
  expected = np.zeros_like(labels)
  for value in values(labels):
    pieces, _ = ndimage.label(labels == value, EIGHT)
    sizes = np.bincount(pieces.ravel())[1:]
    expected[pieces == 1 + sizes.argmax()] = value
  check(labels, expected, fragments='largest')


@pytest.mark.parametrize('name', SCENES)
def test_each_piece_becomes_a_cell(name):
  labels = SCENES[name].copy()
  labels[-3:-1, 1:3] = values(labels)[-1]
  before = dict(zip(values(labels), confidences(labels), strict=True))
  found, confidence = filtered(labels, fragments='split')
  pieces = label_pieces(labels, background=0, connectivity=2)
  pairs = set(zip(found.ravel().tolist(), pieces.ravel().tolist(), strict=True))
  assert len(pairs) == pieces.max() + 1  # The same partition.
  assert values(found).size == confidence.size == pieces.max()
  largest, _ = filtered(labels, fragments='largest')
  np.testing.assert_array_equal(found[largest > 0], labels[largest > 0])
  for value, one in zip(values(found), confidence, strict=True):
    (parent,) = set(labels[found == value].tolist())
    assert one == before[parent]
    assert value == parent or value > values(labels)[-1]


def test_new_labels_may_need_a_wider_type():
  labels = np.zeros((5, 9), np.uint16)
  labels[1, 1] = labels[3, 1] = labels[1:3, 5:7] = 65_535
  found, _ = filtered(labels, fragments='split')
  assert found.dtype == np.uint32
  assert values(found).tolist() == [65_535, 65_536, 65_537]
  assert (found[1, 1], found[3, 1], found[1, 5]) == (65_536, 65_537, 65_535)


@pytest.mark.parametrize('name', ['blobs', 'tricky'])
def test_cells_on_the_border_are_removed(name):
  labels = SCENES[name]
  numbers = np.searchsorted(values(labels), labels, side='right')
  inner = clear_border(numbers) > 0  # It has no room for huge values.
  check(labels, np.where(inner, labels, 0), drop_border=True)


@pytest.mark.parametrize('name', SCENES)
def test_unsure_cells_are_removed(name):
  labels = SCENES[name]
  kept = values(labels)[confidences(labels) >= 0.5]
  check(labels, only(labels, kept), min_confidence=0.5)
  check(labels, only(labels, kept[-1:]), min_confidence=1)


def test_pieces_are_dropped_before_areas_are_counted():
  labels = np.zeros((8, 12), np.int32)
  labels[1:4, 1:4] = 70_000
  labels[6, 10] = 70_000
  check(labels, 0 * labels, fragments='largest', min_area=10)
  expected = labels.copy()
  expected[6, 10] = 0
  check(labels, expected, fragments='split', min_area=2)


def test_no_cell_and_no_cell_left():
  empty = np.zeros((6, 5), np.uint16)
  every = {'min_area': 3, 'max_area': 9, 'fill_holes': True}
  for fragments in ('largest', 'split'):
    found, confidence = filtered(
      empty, fragments=fragments, drop_border=True, **every
    )
    np.testing.assert_array_equal(found, empty)
    assert confidence.shape == (0,)
  check(np.full((1, 1), 5), np.zeros((1, 1)), drop_border=True)


@pytest.mark.parametrize(
  ('settings', 'message'),
  [
    ({'fragments': 'join'}, "one of keep, largest, split, found 'join'"),
    ({'min_area': -1}, 'at least 0, found -1 and 0'),
    ({'max_area': 5, 'min_area': 6}, 'no cell would be left'),
    ({'min_confidence': 1.5}, '0 to 1, found 1.5'),
    ({'min_confidence': float('nan')}, '0 to 1, found nan'),
  ],
)
def test_impossible_settings_are_refused(settings, message):
  with pytest.raises(ValueError, match=message):
    Filters(**settings)


def test_confidences_of_other_labels_are_refused():
  with pytest.raises(ValueError, match=r'there are 6 labels.*shape \(5,\)'):
    filter_labels(SCENES['tricky'], np.ones(5), Filters())
