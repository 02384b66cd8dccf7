"""Training images in tiles on the disk: any part of them is read as it was."""

import dataclasses

import numpy as np
import pytest
from tiny_sets import cells

from cellseg_jax.config import Config
from cellseg_jax.datasets import tiles as tiles_lib
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.serialization import replace


def read(tiles, image, first, side):
  found = np.full((side, side, 3), np.nan, np.float32)
  tiles.read(image, np.array(first), found)
  return found


SHAPES = [(60, 41), (129, 300), (128, 128)]


@pytest.fixture(scope='module')
def images():
  found = []
  for seed, shape in enumerate(SHAPES):
    image, labels = cells(seed, shape)
    labels = labels.astype(np.int32)
    found.append(LabelledImage(str(seed), image, labels, labels >= 0))
  return found


def config_of(cache, **parts):
  return replace(Config(), data={'cache': str(cache)}, **parts)


@pytest.fixture(scope='module')
def opened(images, tmp_path_factory):
  config = config_of(tmp_path_factory.mktemp('cache'))
  return tiles_lib.open_tiles(images, config, 'digest'), config


def test_crops_are_drawn_as_from_a_pool(images, opened):
  tiles, config = opened
  pool = build_pool(images, config)
  for field in dataclasses.fields(tiles.layout):
    found = getattr(tiles.layout, field.name)
    expected = np.asarray(getattr(pool, field.name))
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype


@pytest.mark.parametrize(
  ('image', 'first', 'side'),
  [
    (0, (0, 0), 30),
    (0, (-70, 95), 150),  # Larger than the image, from outside it.
    (1, (100, 250), 64),  # Around a corner, over its last tile of a row.
    (1, (1, 127), 2),
    (2, (-1, -1), 130),
  ],
)
def test_a_window_is_a_part_of_the_image_without_end(
  images, opened, image, first, side
):
  tiles, config = opened
  pool = build_pool([images[image]], config)
  whole = np.asarray(pool.pixels[0])
  rows, columns = (
    (start + np.arange(side)) % extent
    for start, extent in zip(first, SHAPES[image], strict=True)
  )
  found = read(tiles, image, first, side)
  np.testing.assert_array_equal(found, whole[np.ix_(rows, columns)])


def test_tiles_are_written_once_for_what_they_depend_on(images, opened):
  tiles, config = opened

  def unread():
    raise AssertionError('read again')
    yield

  again = tiles_lib.open_tiles(unread(), config, 'digest')
  found, expected = (read(of, 1, (0, 0), 40) for of in (again, tiles))
  np.testing.assert_array_equal(found, expected)
  thick = replace(config, targets={'edge_width': 4})
  for other in ((config, 'of other files'), (thick, 'digest')):
    with pytest.raises(AssertionError, match='read again'):
      tiles_lib.open_tiles(unread(), *other)


def test_runs_on_other_images_of_a_set_have_tiles_of_their_own(
  images, tmp_path
):
  config = config_of(tmp_path)
  for chosen in ([0, 1], [1, 2]):
    names = ','.join(images[i].name for i in chosen)
    some = replace(config, data={'train_images': names})
    tiles = tiles_lib.open_tiles([images[i] for i in chosen], some, 'digest')
    assert list(map(tuple, tiles.layout.sizes)) == [SHAPES[i] for i in chosen]
