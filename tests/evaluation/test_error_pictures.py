"""Pictures of the errors."""

import numpy as np

from cellseg_jax.evaluation.error_pictures import COLOURS, draw_errors


def square(labels, value, row, column, side=12):
  labels[row : row + side, column : column + side] = value


def seen(picture, colour):
  return (picture == colour).all(-1)


def test_each_error_has_its_colour_in_its_place():
  true = np.zeros((80, 80), np.int32)
  predicted = np.zeros((80, 80), np.int32)
  for labels in (true, predicted):
    square(labels, 1, 5, 5)  # Right.
  square(true, 2, 5, 30)  # Two that are merged.
  square(true, 3, 5, 42)
  square(predicted, 2, 5, 30)
  square(predicted, 2, 5, 42)
  square(true, 4, 40, 5)  # One in two halves.
  square(predicted, 4, 40, 5)
  predicted[40:52, 11:17] = 5
  square(true, 6, 40, 30)  # Missed.
  square(predicted, 7, 60, 60)  # Extra.
  square(true, 8, 60, 5)  # Found, but only in part.
  predicted[60:72, 5:9] = 8
  picture = draw_errors(true, predicted)
  assert picture.shape == (80, 80, 3)
  assert picture.dtype == np.uint8
  for name, rows, columns in (
    ('right', (5, 16), (5, 16)),
    ('merged', (5, 16), (30, 53)),
    ('split', (40, 51), (5, 16)),
    ('missed', (40, 51), (30, 41)),
    ('extra', (60, 71), (60, 71)),
    ('inexact', (60, 71), (5, 16)),
  ):
    y, x = np.nonzero(seen(picture, COLOURS[name]))
    assert (y.min(), y.max()) == rows, name
    assert (x.min(), x.max()) == columns, name
  assert (picture[9:12, 9:12] == 0).all()


def test_outlines_lie_on_the_image():
  image = np.tile(np.linspace(0, 1000, 40), (40, 1))
  empty = np.zeros((40, 40), np.int32)
  picture = draw_errors(empty, empty, image)
  assert (np.diff(picture[0, :, 0].astype(int)) >= 0).all()
  assert picture[0, -1].tolist() == [200] * 3
  colours = np.stack([image, image], -1)
  np.testing.assert_array_equal(draw_errors(empty, empty, colours), picture)
