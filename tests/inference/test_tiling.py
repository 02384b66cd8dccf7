"""Tables of tiles: against `jax.image.resize`, and as a whole."""

import jax
import numpy as np
import pytest

from cellseg_jax.images.normalize import resampled_shape
from cellseg_jax.inference.tiling import spans, tile_size

CASES = [
  # Image pixels, factor, tile, overlap.
  (1000, 1.0, 256, 64),
  (1000, 1.0, 2048, 192),
  (999, 0.5, 256, 64),
  (777, 0.399, 128, 32),
  (640, 1.7, 320, 96),
  (257, 1.0, 128, 64),
  (31, 1.0, 128, 64),
  (5, 1.3, 128, 64),
  (1, 1.0, 128, 64),
]
cases = pytest.mark.parametrize(('size', 'factor', 'tile', 'overlap'), CASES)


def lay(size, factor, tile, overlap):
  small, _ = resampled_shape((size, 1), factor)
  side = tile_size(size, small, tile, overlap)
  return small, side, list(spans(size, small, side, overlap))


def sampled(taps, values):
  return (values[taps.pixels] * taps.weight).sum(0)


@cases
def test_blending_weights_add_up_to_one(size, factor, tile, overlap):
  _, _, tiles = lay(size, factor, tile, overlap)
  total = np.zeros(size)
  for span in tiles:
    assert span.blend.min() >= 0
    total[span.first : span.first + span.blend.size] += span.blend
  np.testing.assert_allclose(total, 1, atol=1e-6)


@cases
def test_one_program_serves_all_tiles(size, factor, tile, overlap):
  _, side, tiles = lay(size, factor, tile, overlap)
  assert side % 32 == 0
  shapes = {
    (s.enter.pixels.shape, s.leave.pixels.shape, s.blend.shape) for s in tiles
  }
  assert len(shapes) == 1
  ((_, entered), (_, left), (window,)) = shapes.pop()
  assert (entered, left) == (side, window)
  assert window <= size


@cases
def test_tiles_hold_the_resampled_image_on_the_networks_grid(
  size, factor, tile, overlap
):
  small, side, tiles = lay(size, factor, tile, overlap)
  image = np.random.default_rng(0).random(size).astype(np.float32)
  whole = np.asarray(jax.image.resize(image, (small,), 'linear'))
  whole = np.pad(whole, (0, -small % 32), mode='symmetric')
  covered = np.zeros(whole.size, bool)
  for number, span in enumerate(tiles):
    start = min(number * (side - overlap), whole.size - side)
    assert start % 32 == 0
    window = image[span.first : span.first + span.blend.size]
    found = sampled(span.enter, window)
    np.testing.assert_allclose(found, whole[start : start + side], atol=1e-4)
    covered[start : start + side] = True
  assert covered.all()


@cases
def test_blended_tiles_are_the_whole_resampled_back(
  size, factor, tile, overlap
):
  small, side, tiles = lay(size, factor, tile, overlap)
  logits = np.random.default_rng(1).random(small).astype(np.float32)
  expected = jax.image.resize(logits, (size,), 'linear')
  padded = np.pad(logits, (0, -small % 32), constant_values=1e6)
  found = np.zeros(size)
  for number, span in enumerate(tiles):
    start = min(number * (side - overlap), padded.size - side)
    part = sampled(span.leave, padded[start : start + side])
    found[span.first : span.first + span.blend.size] += span.blend * part
  np.testing.assert_allclose(found, expected, atol=1e-4)


@cases
def test_the_ends_of_a_tile_do_not_count(size, factor, tile, overlap):
  small, side, tiles = lay(size, factor, tile, overlap)
  padded = small + -small % 32
  scale = small / size
  for number, span in enumerate(tiles):
    start = min(number * (side - overlap), padded - side)
    at = (span.first + np.arange(span.blend.size) + 0.5) * scale
    depth = np.minimum(
      at - start if start else np.inf,
      start + side - at if start + side < padded else np.inf,
    )
    assert (span.blend[depth < overlap / 4] == 0).all()


def test_tiles_are_as_small_as_their_number_allows():
  assert tile_size(20000, 20000, 2048, 192) == 2016
  assert tile_size(2048, 2048, 2048, 192) == 2048
  assert tile_size(100, 100, 2048, 192) == 128


def test_a_network_that_shrinks_does_not_look_at_all_of_an_image_at_once():
  _, _, tiles = lay(20000, 0.1, 2048, 64)
  assert 3000 < tiles[0].blend.size <= 2 * 2048
