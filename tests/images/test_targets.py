"""Training targets and weights, drawn by hand."""

import dataclasses

import numpy as np
import pytest

from cellseg_jax.config import TargetConfig
from cellseg_jax.images.targets import (
  cut_gap,
  edges,
  resample_labels,
  targets_and_weight,
)

FOREGROUND = ('foreground',)


def picture(text):
  """An int32 array from rows of digits; `.` is 0."""
  rows = text.split()
  return np.array([[int(c) if c != '.' else 0 for c in r] for r in rows])


TOUCHING = picture("""
  ........
  .111222.
  .111222.
  .111222.
  ........
""")


def voronoi(seed=0, size=40):
  """Cells that touch one another and the border, with some background."""
  rng = np.random.default_rng(seed)
  seeds = rng.uniform(0, size, (12, 2))
  places = np.stack(np.mgrid[:size, :size], -1)[:, :, None]
  labels = np.linalg.norm(places - seeds, axis=-1).argmin(-1) + 1
  labels[labels > 9] = 0
  return labels


def test_a_gap_of_1_takes_a_pixel_from_either_cell():
  expected = picture("""
    ........
    .11..22.
    .11..22.
    .11..22.
    ........
  """)
  np.testing.assert_array_equal(cut_gap(TOUCHING, 1), expected)


def test_a_gap_of_2_takes_two():
  expected = picture("""
    ........
    .1....2.
    .1....2.
    .1....2.
    ........
  """)
  np.testing.assert_array_equal(cut_gap(TOUCHING, 2), expected)


def test_a_gap_of_0_takes_none():
  np.testing.assert_array_equal(cut_gap(TOUCHING, 0), TOUCHING)


def test_distance_is_euclidean():
  corner = picture('1. .2')
  np.testing.assert_array_equal(cut_gap(corner, 1), corner)
  np.testing.assert_array_equal(cut_gap(corner, 2), 0 * corner)
  apart = picture('11.22')
  np.testing.assert_array_equal(cut_gap(apart, 1), apart)
  np.testing.assert_array_equal(cut_gap(apart, 2), picture('1...2'))


@pytest.mark.parametrize('gap', [1, 2, 3])
def test_a_lonely_cell_keeps_its_outline(gap):
  labels = np.where(TOUCHING == 1, 1, 0)
  for rolled in (labels, np.roll(labels, 3, 0), np.roll(labels, -1, 1)):
    np.testing.assert_array_equal(cut_gap(rolled, gap), rolled)


@pytest.mark.parametrize('gap', [1, 2])
def test_cells_end_up_apart_whatever_their_numbers(gap):
  labels = voronoi()
  parted = cut_gap(labels, gap)
  names = np.array([0, 70, 3, 9, 1, 1000, 12, 5, 400, 8])
  np.testing.assert_array_equal(cut_gap(names[labels], gap), names[parted])
  # Straight lines that are not background in both have one number.
  for step in range(1, gap + 1):
    for one, other in (
      (parted[step:], parted[:-step]),
      (parted[:, step:], parted[:, :-step]),
    ):
      assert not ((one != other) & (one > 0) & (other > 0)).any()
  assert (parted[labels == 0] == 0).all()


def test_edges_of_a_straight_border():
  labels = np.repeat([[0, 0, 0, 0, 1, 1, 1, 1, 1]], 5, axis=0)
  for width, columns in ((1, [3, 4]), (2, [2, 3, 4, 5]), (3, range(1, 7))):
    expected = np.isin(np.arange(9), columns)
    marked = edges(labels, width)
    np.testing.assert_array_equal(marked, np.repeat([expected], 5, axis=0))
  assert not edges(labels, 0).any()


def test_an_image_without_a_border_has_no_edges():
  for labels in (np.zeros((9, 7), int), np.ones((9, 7), int)):
    assert not edges(labels, 3).any()


@pytest.mark.parametrize('width', [1, 2, 4])
def test_edges_are_symmetric(width):
  labels = voronoi()
  marked = edges(labels, width)
  assert 0 < marked.mean() < 1
  np.testing.assert_array_equal(edges(labels[::-1], width), marked[::-1])
  np.testing.assert_array_equal(edges(labels.T, width), marked.T)
  np.testing.assert_array_equal(edges(9 - labels, width), marked)
  assert (marked <= edges(labels, width + 1)).all()


def test_weights_and_foreground_of_touching_cells():
  valid = np.ones(TOUCHING.shape, bool)
  valid[2] = False
  config = TargetConfig(gap=1, edge_width=1, edge_weight=7.0)
  targets, weight = targets_and_weight(TOUCHING, valid, FOREGROUND, config)
  foreground = targets[..., 0]
  assert foreground.dtype == weight.dtype == np.float32
  np.testing.assert_array_equal(foreground, cut_gap(TOUCHING, 1) > 0)
  assert (weight[2] == 0).all()
  # Inner pixels of the two left-over strips touch background, all of them.
  np.testing.assert_array_equal(weight[1], [7, 7, 7, 7, 7, 7, 7, 7])
  np.testing.assert_array_equal(weight[0], [1, 7, 7, 1, 1, 7, 7, 1])


def test_a_valley_is_cut_into_the_shape_maps_alone():
  labels = voronoi()
  valid = np.ones(labels.shape, bool)
  maps = ('foreground', 'distance', 'centre')
  of = {
    (gap, valley): targets_and_weight(
      labels, valid, maps, TargetConfig(gap=gap, valley=valley)
    )
    for gap, valley in ((0, 0), (0, 2), (2, 0), (2, 1))
  }
  np.testing.assert_array_equal(of[0, 2][0][..., 0], of[0, 0][0][..., 0])
  np.testing.assert_array_equal(of[0, 2][1], of[0, 0][1])
  np.testing.assert_array_equal(of[0, 2][0][..., 1:], of[2, 0][0][..., 1:])
  np.testing.assert_array_equal(of[2, 1][0], of[2, 0][0])
  assert (of[0, 2][0][..., 1] == 0).any()


def test_edges_are_smoothed_and_nothing_else():
  labels = voronoi()
  valid = np.ones(labels.shape, bool)
  smooth = TargetConfig(gap=1, edge_width=2, edge_smoothing=0.2)
  maps = ('foreground', 'distance')
  targets, weight = targets_and_weight(labels, valid, maps, smooth)
  hard = dataclasses.replace(smooth, edge_smoothing=0.0)
  plain, plain_weight = targets_and_weight(labels, valid, maps, hard)
  edge = edges(cut_gap(labels, 1), 2)
  np.testing.assert_array_equal(targets[..., 0][~edge], plain[..., 0][~edge])
  np.testing.assert_allclose(
    targets[..., 0][edge], np.where(plain[..., 0][edge], 0.9, 0.1), rtol=1e-6
  )
  np.testing.assert_array_equal(targets[..., 1], plain[..., 1])
  np.testing.assert_array_equal(weight, plain_weight)


def test_without_overweight_all_pixels_count_alike():
  labels = voronoi()
  valid = np.random.default_rng(0).random(labels.shape) < 0.7
  for config in (TargetConfig(edge_weight=1.0), TargetConfig(edge_width=0)):
    np.testing.assert_array_equal(
      targets_and_weight(labels, valid, FOREGROUND, config)[1], valid
    )


def test_labels_are_resampled_to_the_nearest():
  labels = picture('1122 1122 3344 3344')
  np.testing.assert_array_equal(
    resample_labels(labels, (2, 2)), picture('12 34')
  )
  np.testing.assert_array_equal(
    resample_labels(picture('12 34'), (4, 4)), labels
  )
  same = voronoi()
  np.testing.assert_array_equal(resample_labels(same, same.shape), same)
  mask = resample_labels(same > 0, (13, 57))
  assert mask.shape == (13, 57)
  assert mask.dtype == bool
  assert mask.mean() == pytest.approx((same > 0).mean(), abs=0.05)
