"""Pictures and outlines as a page holds them."""

import base64
import re

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.measure import grid_points_in_poly

from cellseg_jax.report import encode


def decoded(uri):
  return iio.imread(base64.b64decode(uri.partition(',')[2]))


def inside(path, shape):
  """The pixels whose middle is within a path, by the even-odd rule."""
  mask = np.zeros(shape, bool)
  for ring in path.split('M')[1:]:
    x, y = map(int, re.match(r'(-?\d+) (-?\d+)', ring).groups())
    corners = [(y, x)]
    for way, step in re.findall(r'([hv])(-?\d+)', ring):
      x, y = x + int(step) * (way == 'h'), y + int(step) * (way == 'v')
      corners.append((y, x))
    corners = np.array(corners) - 0.5  # Middles of pixels are whole numbers.
    mask ^= grid_points_in_poly(shape, corners)
  return mask


def test_paths_hold_exactly_the_pixels():
  random = np.random.default_rng(0)
  labels = random.integers(0, 4, (12, 15)).repeat(3, 0).repeat(3, 1)
  path = encode.outline_path(labels, [1, 3])
  np.testing.assert_array_equal(
    inside(path, labels.shape), np.isin(labels, [1, 3])
  )
  assert encode.outline_path(labels, []) == ''


def test_labels_and_probabilities_survive_exactly():
  labels = np.array([[0, 1, 255, 256], [65_535, 65_536, 2**24 - 2, 7]])
  valid = np.ones(labels.shape, bool)
  valid[1, 3] = False
  red, green, blue = np.moveaxis(
    decoded(encode.labels_png(labels, valid)).astype(int), -1, 0
  )
  expected = np.where(valid, labels, encode.NOT_VALID)
  np.testing.assert_array_equal(red + 256 * green + 65_536 * blue, expected)
  probability = np.float32([[0, 0.5, 1], [0.25, 1.2, -0.1]])
  found = decoded(encode.probability_png(probability))
  assert found.tolist() == [[0, 128, 255], [64, 255, 0]]


@pytest.mark.parametrize('shape', [(30, 50), (1, 700), (1000, 401)])
def test_images_are_made_to_fit(shape):
  scale = encode.Scale.fitting((*shape, 3), 100)
  assert max(scale.shown) == min(100, max(shape))
  values = np.random.default_rng(0).random(shape)
  shown = scale.values(values)
  assert shown.shape == scale.shown
  assert abs(shown.mean() - values.mean()) < 0.05
  labels = np.arange(shape[0])[:, None] * np.ones(shape[1], int)
  rows = scale.labels(labels)[:, 0]
  assert rows.shape == scale.shown[:1]
  middle = (np.arange(rows.size) + 0.5) * shape[0] / rows.size
  assert np.abs(rows + 0.5 - middle).max() <= 0.5


def test_jpegs_are_close():
  ramp = np.tile(np.linspace(-0.1, 1.1, 64), (64, 1))
  found = decoded(encode.jpeg(ramp)) / 255
  assert np.abs(found - np.clip(ramp, 0, 1)).max() < 0.03
