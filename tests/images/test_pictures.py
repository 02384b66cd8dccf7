"""Pictures: brightness, colours and outlines, pixel by pixel."""

from label_scenes import SCENES
import numpy as np
import pytest

from cellseg_jax.images import pictures
from cellseg_jax.images.outlines import boundary


def test_grey_runs_from_black_to_white():
  ramp = np.tile(np.linspace(-500, 9000, 200), (50, 1))
  grey = pictures.grey(ramp)
  assert grey.min() == 0
  assert grey.max() == 1
  assert (np.diff(grey[0]) >= 0).all()
  assert 0.45 < np.median(grey) < 0.55
  both = np.dstack([ramp, -ramp])
  np.testing.assert_allclose(pictures.grey(both), 0.5, atol=0.01)
  assert (pictures.grey(np.full((5, 5), 7)) == 0).all()


def test_label_colours_tell_touching_cells_apart():
  random = np.random.default_rng(2)
  labels = np.kron(random.permutation(400).reshape(20, 20), np.ones((5, 5)))
  colours = pictures.label_colours(labels.astype(np.int32))
  assert np.all(colours[labels == 0] == 0)
  for axis in (0, 1):
    step = np.diff(labels, axis=axis) != 0
    change = np.abs(np.diff(colours, axis=axis)).sum(-1)
    assert np.all(change[step] > 0.1)
    assert np.all(change[~step] == 0)
  again = pictures.label_colours(labels.astype(np.uint16))
  np.testing.assert_array_equal(again, colours)


def test_label_colours_of_a_cell_with_very_many_neighbours():
  labels = np.zeros((3, 40), np.int64)
  labels[0] = np.arange(40) // 2 + 1
  labels[1:] = 99
  colours = pictures.label_colours(labels)
  assert np.all(np.abs(colours[0] - colours[1]).sum(-1) > 0.1)
  assert np.all(pictures.label_colours(np.zeros((3, 3), int)) == 0)


def coloured(picture):
  return np.ptp(picture.astype(int), axis=-1) > 0


@pytest.mark.parametrize('name', SCENES)
@pytest.mark.parametrize('channels', [(), (3,)])
def test_overlay_colours_the_outlines_and_nothing_else(name, channels):
  labels = SCENES[name]
  random = np.random.default_rng(0)
  image = random.integers(0, 4096, (*labels.shape, *channels), np.uint16)
  picture = pictures.overlay(image, labels)
  assert picture.dtype == np.uint8
  assert picture.shape == (*labels.shape, 3)
  np.testing.assert_array_equal(coloured(picture), boundary(labels))


def test_overlay_lines_of_large_cells_are_two_pixels_wide():
  labels = np.zeros((60, 130), np.int32)
  labels[5:55, 10:60] = 5
  labels[5:55, 60:110] = 9
  picture = pictures.overlay(np.zeros(labels.shape), labels)
  line = coloured(picture)[30]
  assert np.flatnonzero(line).tolist() == [10, 11, *range(58, 62), 108, 109]
  assert (picture[30, 59] != picture[30, 60]).any()
  np.testing.assert_array_equal(picture[30, 10], picture[30, 59])


def test_overlay_without_a_cell_is_the_image():
  image = np.tile(np.arange(50.0), (40, 1))
  picture = pictures.overlay(image, np.zeros((40, 50), int))
  assert not coloured(picture).any()
  assert (np.diff(picture[0, :, 0].astype(int)) >= 0).all()
  assert picture[0, -1, 0] > 200
