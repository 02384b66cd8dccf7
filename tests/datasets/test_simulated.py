import numpy as np
import pytest
from scipy import ndimage
from skimage import filters, measure

from cellseg_jax.datasets import simulated


@pytest.fixture(scope='module')
def colonies():
  return [simulated.simulate_colony(seed) for seed in (0, 5)]


def f1_at_half(predicted, truth):
  """F1 at IoU 0.5; at that threshold every overlap above is a match."""
  cells, found = truth.max() + 1, predicted.max() + 1
  pairs = truth.astype(np.int64) * found + predicted
  overlap = np.bincount(pairs.ravel(), minlength=cells * found)
  overlap = overlap.reshape(cells, found)
  union = overlap.sum(0) + overlap.sum(1, keepdims=True) - overlap
  matches = (overlap / np.maximum(union, 1) > 0.5)[1:, 1:].sum()
  return 2 * matches / (cells + found - 2)


def test_f1_knows_a_perfect_and_a_merged_result(colonies):
  _, truth = colonies[0]
  assert f1_at_half(truth, truth) == 1
  assert f1_at_half((truth > 0).astype(int), truth) == 0


def test_shape_type_and_determinism(colonies):
  image, labels = colonies[0]
  assert (image.dtype, image.shape) == (np.uint16, (1024, 1024))
  assert (labels.dtype, labels.shape) == (np.int32, (1024, 1024))
  again = simulated.simulate_colony(np.random.default_rng(0))
  np.testing.assert_array_equal(image, again[0])
  np.testing.assert_array_equal(labels, again[1])
  assert (labels != colonies[1][1]).any()


def test_nuclei_are_whole_connected_and_of_the_promised_size(colonies):
  for _, labels in colonies:
    regions = measure.regionprops(labels)
    assert [r.label for r in regions] == list(range(1, len(regions) + 1))
    assert 60 <= len(regions) <= 110
    for region in regions:
      assert 39 <= region.feret_diameter_max <= 92
      assert ndimage.label(region.image)[1] == 1
      assert min(region.bbox[:2]) > 0
      assert max(region.bbox[2:]) < 1024


def test_many_nuclei_press_each_other_with_gaps_up_to_five_pixels(colonies):
  for _, labels in colonies:
    near, boxes = 0, ndimage.find_objects(labels)
    for value in range(1, labels.max() + 1):
      y, x = (slice(max(s.start - 8, 0), s.stop + 8) for s in boxes[value - 1])
      away = ndimage.distance_transform_edt(labels[y, x] != value)
      others = (labels[y, x] > 0) & (labels[y, x] != value)
      near += bool(others.any() and away[others].min() <= 6)
    assert near > 0.8 * labels.max()


def test_otsu_and_connected_components_fail(colonies):
  for image, labels in colonies:
    for smoothing in (0, 1.5):
      smooth = ndimage.gaussian_filter(image.astype(float), smoothing)
      mask = smooth > filters.threshold_otsu(smooth)
      opened = ndimage.binary_opening(mask, iterations=2)
      for result in (mask, opened):
        assert f1_at_half(measure.label(result), labels) < 0.6


def test_nuclei_stand_out_from_what_surrounds_them(colonies):
  for image, labels in colonies:
    smooth = ndimage.gaussian_filter(image.astype(float), 1.5)
    distance = ndimage.distance_transform_edt(labels == 0)
    ring = (distance >= 6) & (distance < 12)
    above, boxes = 0, ndimage.find_objects(labels)
    for value in range(1, labels.max() + 1):
      y, x = (
        slice(max(s.start - 20, 0), s.stop + 20) for s in boxes[value - 1]
      )
      around = smooth[y, x][ring[y, x]]
      nucleus = smooth[y, x][labels[y, x] == value]
      above += not len(around) or np.median(nucleus) > np.median(around)
    assert above >= 0.98 * labels.max()


def test_dead_cells_are_bright_and_not_labelled(colonies):
  for image, labels in colonies:
    bright = image > 1.4 * np.percentile(image[labels > 0], 99)
    assert bright[labels == 0].sum() > 100
    assert bright[labels > 0].sum() < 0.05 * bright.sum()
