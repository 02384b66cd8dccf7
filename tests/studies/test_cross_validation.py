"""The bounds of pooled metrics."""

import numpy as np
import pytest

from cellseg_jax.evaluation import scores
from cellseg_jax.studies import cross_validation


def counts(found):
  """Of an image of four cells, so many of which are found."""
  labels = np.zeros((10, 40), np.int32)
  for value in range(1, 5):
    labels[2:8, 10 * value - 8 : 10 * value - 2] = value
  return scores.count(labels, np.where(labels <= found, labels, 0))


def test_equal_images_leave_no_room_for_chance():
  bounds = cross_validation.bootstrap([counts(3)] * 3)
  pooled = cross_validation.figures_of(scores.pool([counts(3)] * 3))
  assert bounds['f1.0.5'] == pytest.approx((pooled['f1']['0.5'],) * 2)
  assert bounds['mean_f1'] == pytest.approx((pooled['mean_f1'],) * 2)


def test_the_bounds_are_those_of_drawn_images():
  images = [counts(4), counts(2)]
  bounds = cross_validation.bootstrap(images)
  # A quarter of the draws has the first image twice, a quarter the second.
  assert bounds['recall.0.5'] == pytest.approx((0.5, 1.0))
  assert bounds['missed'] == (0, 4)
  assert cross_validation.bootstrap(images) == bounds


def test_the_table_ends_in_all_images_and_their_bounds():
  images = {'a': counts(4), 'b': counts(2)}
  report = {
    'images': {n: cross_validation.figures_of(c) for n, c in images.items()},
    'pooled': cross_validation.figures_of(scores.pool(list(images.values()))),
    'interval': cross_validation.bootstrap(list(images.values())),
  }
  rows = cross_validation.rows(report)
  assert [row['image'] for row in rows] == [
    'a',
    'b',
    'all',
    'all, lower bound',
    'all, upper bound',
  ]
  assert [row['missed'] for row in rows] == [0, 2, 2, 0, 4]
  assert rows[2]['f1.0.5'] == pytest.approx(2 * 6 / (8 + 6))
