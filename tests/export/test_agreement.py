"""Differences between maps, and the image on which they are looked for."""

import jax.numpy as jnp
import numpy as np
import pytest
from tiny_networks import LINE, use_a_line

from cellseg_jax.config import Config
from cellseg_jax.export import agreement
from cellseg_jax.inference.predict import Model, predict_maps
from cellseg_jax.serialization import replace


def line_model(**parts):
  config = replace(Config(), **parts)
  return Model(LINE, {'threshold': jnp.float32(0.5)}, config)


def test_the_worst_pixel_of_all_maps_counts():
  ours = {'a': np.zeros((2, 3, 4)), 'b': np.ones((2, 3, 4))}
  theirs = {name: values.copy() for name, values in ours.items()}
  assert agreement.worst_difference(ours, theirs) == 0
  theirs['a'][0, 1, 2] = 0.25
  theirs['b'][1, 0, 0] = 0.5
  assert agreement.worst_difference(ours, theirs) == 0.5


@pytest.mark.parametrize(
  'theirs',
  [{}, {'a': np.zeros(3)}, {'a': np.full(2, np.nan)}],
  ids=['names', 'shape', 'nan'],
)
def test_what_cannot_be_compared_is_refused(theirs):
  with pytest.raises(agreement.AgreementError):
    agreement.worst_difference({'a': np.zeros(2)}, theirs)


def test_the_bound_is_allowed_and_no_more():
  agreement.check(agreement.BOUND)
  with pytest.raises(agreement.AgreementError, match=r'2\.0e-04'):
    agreement.check(2 * agreement.BOUND)


@pytest.mark.parametrize('channels', [1, 2])
def test_maps_of_normalized_pixels_are_those_of_the_image(
  monkeypatch, channels
):
  use_a_line(monkeypatch)
  model = line_model(data={'channels': channels, 'resample': 0.8})
  image = agreement.sample_image(model)
  assert image.shape == agreement.SHAPE + (channels,) * (channels > 1)
  found = agreement.maps_of_pixels(
    model, agreement.normalized_pixels(model, image)
  )
  expected = predict_maps(model, image)
  assert set(found) == set(expected) == {'foreground'}
  np.testing.assert_allclose(
    found['foreground'][0], expected['foreground'], atol=1e-6
  )
  assert np.ptp(found['foreground']) > 0.1
