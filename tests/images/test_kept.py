"""Tiles and strips are decoded once for all blocks that overlap them."""

import numpy as np
import pytest

from cellseg_jax.images import kept
from cellseg_jax.images.kept import keep

PIXELS = np.random.default_rng(0).integers(0, 255, (2, 64, 300), np.uint8)


class Chunked:
  """Pixels in chunks; counts those that are decoded."""

  def __init__(self, height, width):
    self.shape, self.dtype = PIXELS.shape, PIXELS.dtype
    self.chunks = (1, height, width)
    self.decoded = 0

  def __getitem__(self, index):
    touched = [
      set(np.atleast_1d(np.arange(whole)[part]) // size)
      for part, size, whole in zip(
        index[1:], self.chunks[1:], self.shape[1:], strict=True
      )
    ]
    self.decoded += len(touched[0]) * len(touched[1])
    return PIXELS[index]


def read_all(array, size=20, margin=5):
  """Reads blocks that overlap."""
  for frame in range(2):
    for y in range(0, 64, size):
      for x in range(0, 300, size):
        rows = slice(max(y - margin, 0), min(y + size + margin, 64), 1)
        columns = slice(max(x - margin, 0), min(x + size + margin, 300), 1)
        found = array[frame, rows, columns]
        np.testing.assert_array_equal(found, PIXELS[frame, rows, columns])
        found += 1  # The caller's own: what is kept must not change.


@pytest.fixture(autouse=True)
def _small(monkeypatch):
  """As if the chunks were large."""
  monkeypatch.setattr(kept, '_FEWEST_VALUES', 1)


@pytest.mark.parametrize(
  ('height', 'width', 'count'), [(8, 300, 8), (16, 16, 76), (64, 300, 1)]
)
def test_each_chunk_is_decoded_once(height, width, count):
  chunked = Chunked(height, width)
  read_all(keep(chunked, 1, 2))
  assert chunked.decoded == 2 * count


def test_small_chunks_are_decoded_together(monkeypatch):
  monkeypatch.setattr(kept, '_FEWEST_VALUES', 3 * 300)
  chunked = Chunked(1, 300)
  calls = []
  monkeypatch.setattr(
    Chunked,
    '__getitem__',
    lambda _, index: calls.append(index) or PIXELS[index],
  )
  read_all(keep(chunked, 1, 2))
  assert len(calls) == 2 * 22


def test_no_more_is_kept_than_allowed(monkeypatch):
  # Room for three strips of eight; a row of blocks needs four.
  monkeypatch.setattr(kept, '_KEPT_BYTES', 4 * 30 * 30)
  chunked = Chunked(8, 300)
  array = keep(chunked, 1, 2)
  read_all(array)
  held = sum(piece.nbytes for piece in array._pieces.values())
  assert held <= 4 * 30 * 30
  assert chunked.decoded > 2 * 8


def test_a_piece_larger_than_allowed_is_kept_alone(monkeypatch):
  monkeypatch.setattr(kept, '_KEPT_BYTES', 4 * 30 * 30)
  chunked = Chunked(64, 300)
  read_all(keep(chunked, 1, 2))
  assert chunked.decoded == 2


@pytest.mark.parametrize(
  'index',
  [
    (0, slice(3, 60, 5), slice(0, 300, 7)),
    (slice(0, 2, 1), slice(3, 29, 1), slice(2, 55, 1)),
    (slice(0, 2, 1), slice(5, 6, 1), 7),
    (1, slice(3, 3, 1), slice(2, 5, 1)),
    (1, slice(60, 64, 1), slice(290, 300, 1)),
  ],
)
def test_every_way_of_indexing(index):
  array = keep(Chunked(16, 16), 1, 2)
  np.testing.assert_array_equal(array[index], PIXELS[index])


def test_pixels_that_are_not_decoded_are_left_alone():
  array = Chunked(1, 1)
  assert keep(array, 1, 2) is array
