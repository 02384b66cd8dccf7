"""What follows from the training labels."""

import numpy as np
import pytest

from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.survey import survey
from cellseg_jax.serialization import replace
from cellseg_jax.training.resolve import resolve


def squares(*sides):
  """An image with a square cell of each side, far apart."""
  labels = np.zeros((120, 120 * len(sides)), np.int32)
  for value, side in enumerate(sides, 1):
    left = 120 * (value - 1)
    labels[:side, left : left + side] = value
  return LabelledImage('squares', labels, labels, labels >= 0)


def areas(*images):
  return survey(images).areas


def test_the_median_cell_gets_the_wanted_diameter():
  images = [squares(50, 100), squares(20, 50, 60)]
  config = replace(Config(), data={'cell_diameter': 28.21})
  # A square of side 50 has the area of a disc of diameter 56.42.
  assert resolve(config, areas(*images)).data.resample == pytest.approx(
    0.5, abs=1e-3
  )


@pytest.mark.parametrize(
  ('side', 'factor'), [(2, 4.0), (9, 3.939), (100, 0.354)]
)
def test_tiny_cells_are_not_magnified_without_end(side, factor):
  config = replace(Config(), data={'cell_diameter': 40.0})
  resolved = resolve(config, areas(squares(*[side] * 3)))
  assert resolved.data.resample == pytest.approx(factor, abs=1e-3)


def test_the_smallest_cell_and_the_rim_follow():
  config = replace(
    Config(),
    data={'resample': 0.25},
    targets={'gap': 1},
    decoding={'min_area': -1, 'rim': -1},
  )
  resolved = resolve(config, areas(squares(*[40] * 9)))
  assert resolved.decoding.min_area == 400
  assert resolved.decoding.rim == 4


def test_what_is_given_stays():
  config = replace(
    Config(),
    data={'resample': 0.7, 'diameter': 20.0, 'pixel_size': 0.3},
    decoding={'min_area': 3, 'rim': 2},
  )
  assert resolve(config, areas(squares(30)), 0.5) == config
  wanted = replace(
    config, data={'cell_diameter': 20.0}, decoding={'min_area': -1}
  )
  once = resolve(wanted, areas(squares(30)))
  assert resolve(once, areas(squares(30))) == once


def test_diameter_and_pixel_size_are_kept_for_use():
  data = resolve(Config(), areas(squares(20, 50, 60)), 0.65).data
  assert data.diameter == pytest.approx(56.42)
  assert data.pixel_size == 0.65


def test_only_valid_pixels_are_measured():
  image = squares(10, 20)
  valid = np.ones(image.labels.shape, bool)
  valid[:, 120:] = False
  half = LabelledImage('half', image.image, image.labels, valid)
  assert areas(half).tolist() == [100]
  assert sorted(areas(image, half)) == [100, 100, 400]
