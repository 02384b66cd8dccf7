"""What is measured for the page, by hand."""

import numpy as np

from cellseg_jax.evaluation.look import Look
from cellseg_jax.report import measures


def a_look(true, found, probability=None, valid=None):
  true, found = np.asarray(true, np.int32), np.asarray(found, np.int32)
  if probability is None:
    probability = (found > 0) * np.float32(1)
  if valid is None:
    valid = np.ones(true.shape, bool)
  return Look('a', true * 9, valid, true, found, {}, probability)


def square(labels, value, row, column, height=10, width=10):
  labels[row : row + height, column : column + width] = value


def test_calibration_by_hand():
  probability = np.float32([[0.05, 0.05, 0.95, 0.95, 1.0, 0.5]])
  true = [[0, 1, 1, 1, 1, 1]]
  valid = np.array([[True] * 5 + [False]])
  found = measures.calibration([a_look(true, true, probability, valid)])
  assert found.pixels.tolist() == [2, 0, 0, 0, 0, 0, 0, 0, 0, 3]
  np.testing.assert_allclose(found.observed[[0, 9]], [0.5, 1])
  np.testing.assert_allclose(found.predicted[[0, 9]], [0.05, 2.9 / 3], 1e-6)
  assert np.isnan(found.observed[5])
  expected = (2 * 0.45 + 3 * (1 - 2.9 / 3)) / 5
  assert abs(found.error - expected) < 1e-6


def test_sizes_of_all_and_of_matches():
  true, found = np.zeros((2, 40, 40), int)
  square(true, 3, 0, 0)
  square(found, 1, 0, 0, width=9)
  square(true, 90_000_000, 20, 20)
  look = a_look(true, found)
  sizes = measures.sizes(measures.tables_of([look]))
  disc = measures.diameters(np.array([90, 100]))
  np.testing.assert_allclose(sizes.true, disc[[1, 1]])
  np.testing.assert_allclose(sizes.found, disc[:1])
  np.testing.assert_allclose(sizes.pairs, [disc[::-1]])


def test_the_worst_cells_come_first():
  true, found = np.zeros((2, 60, 60), int)
  square(true, 1, 0, 0)  # Right.
  square(found, 5, 0, 0)
  square(true, 90_000_000, 20, 0, width=12)  # Missed, larger.
  square(true, 2, 40, 0)  # Missed.
  square(found, 6, 20, 30, width=11)  # Extra.
  square(true, 3, 40, 30)  # Found in part.
  square(found, 7, 40, 30, width=3)
  looks = [a_look(np.zeros((5, 5)), np.zeros((5, 5))), a_look(true, found)]
  worst = measures.worst_cells(looks, measures.tables_of(looks), 4)
  assert [(c.label, c.kind, c.area) for c in worst] == [
    (90_000_000, 'missed', 120),
    (6, 'extra', 110),
    (2, 'missed', 100),
    (3, 'inexact', 100),
  ]
  assert worst[1].box == (slice(20, 30), slice(30, 41))
  assert abs(worst[3].iou - 0.3) < 1e-9
  assert {cell.look for cell in worst} == {1}
