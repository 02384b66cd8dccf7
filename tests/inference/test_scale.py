"""Images of other scales: labels stay in their own pixels."""

import jax.numpy as jnp
import numpy as np
import pytest

from cellseg_jax.config import Config
from cellseg_jax.inference.predict import Model
from cellseg_jax.inference.scale import expected_diameter, fitted, oddity
from cellseg_jax.serialization import replace


def model(**data):
  config = replace(
    Config(),
    data={'resample': 0.5, 'diameter': 30.0} | data,
    decoding={'min_area': 40, 'rim': 2},
  )
  return Model({}, {'threshold': jnp.float32(0.5)}, config)


def test_cells_of_twice_the_diameter_are_seen_at_half_the_scale():
  config = fitted(model(), 60, None).config
  assert config.data.resample == 0.25
  assert config.decoding.min_area == 160
  assert config.decoding.rim == 4


def test_pixels_of_half_the_size_make_cells_twice_as_large():
  config = fitted(model(pixel_size=0.5), 0, (0.25, 0.25)).config
  assert config.data.resample == 0.25
  assert expected_diameter(model(pixel_size=0.5), 0, (0.25, 0.25)) == 60


def test_a_diameter_counts_more_than_a_pixel_size():
  known = model(pixel_size=0.5)
  assert fitted(known, 15, (0.25, 0.25)).config.data.resample == 1
  assert expected_diameter(known, 15, (0.25, 0.25)) == 15


@pytest.mark.parametrize(
  ('known', 'diameter', 'pixel_size'),
  [
    ({}, 0, (0.25, 0.25)),
    ({'pixel_size': 0.5}, 0, None),
    ({'pixel_size': 0.5}, 0, (0.51, 0.49)),
    ({}, 31, None),
  ],
)
def test_what_is_alike_or_unknown_changes_nothing(known, diameter, pixel_size):
  same = model(**known)
  assert fitted(same, diameter, pixel_size) is same


@pytest.mark.parametrize('diameter', [1, 700])
def test_scales_out_of_proportion_are_refused(diameter):
  with pytest.raises(ValueError, match='times as large as in training'):
    fitted(model(), diameter, None)


def test_a_model_of_unknown_diameter_cannot_be_scaled():
  with pytest.raises(ValueError, match='does not know the diameter'):
    fitted(model(diameter=0.0), 30, None)


def test_cells_far_from_the_expected_size_are_odd():
  areas = np.full(6, 25 * np.pi)  # Of diameter 10.
  assert oddity(areas, 10) == oddity(areas, 6.5) == oddity(areas, 0) == ''
  assert oddity(areas, 30).startswith('the median cell is 10 pixels across')
  assert oddity(areas, 6).startswith('the median cell is 10 pixels across')
  assert oddity(areas[:4], 30) == ''
