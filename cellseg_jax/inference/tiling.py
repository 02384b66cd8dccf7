"""Tiles of a large image: where they lie, how they are cut and put together.

Tiles lie on the grid of the network's input, the image after resampling, at
multiples of the network's stride, so that inside a tile the network computes
what it would compute of the whole. Along each axis a tile is described by
tables made here, which hold all that differs between tiles: one compiled
program serves them all. NumPy only.
"""

from collections.abc import Iterator
import math
from typing import NamedTuple

import numpy as np

from cellseg_jax.config import STRIDE


class Taps(NamedTuple):
  """Linear resampling along one axis, as a weighted sum of pixels.

  Attributes:
    pixels: Those to read for each new one, int32 (K, n).
    weight: Their weights, float32 (K, n), of sum 1.
  """

  pixels: np.ndarray
  weight: np.ndarray


class Span(NamedTuple):
  """A tile along one axis, and the window of the image that it needs.

  Attributes:
    first: First pixel of the window, which has as many in every tile.
    enter: From the window to the tile.
    leave: From the tile to the window.
    blend: Share that the tile has in each pixel of the window, float32 (N,),
      of sum 1 over all tiles.
  """

  first: int
  enter: Taps
  leave: Taps
  blend: np.ndarray


def tile_size(size: int, resampled: int, tile: int, overlap: int) -> int:
  """Returns the side of the tiles: the least by which as few tiles do.

  Args:
    size: Pixels of the image along the axis.
    resampled: Those of the network's input.
    tile: Most pixels of a tile; of the image twice as many may belong to it.
    overlap: Pixels of the network's input that neighbouring tiles share; a
      multiple of the stride.
  """
  padded = _ceil(resampled)
  most = int(tile * min(1, 2 * resampled / size)) // STRIDE * STRIDE
  most = max(most, 2 * overlap)
  if padded <= most:
    return padded
  count = math.ceil((padded - overlap) / (most - overlap))
  return _ceil((padded + (count - 1) * overlap) / count)


def _ceil(pixels: float) -> int:
  return math.ceil(pixels / STRIDE) * STRIDE


def spans(size: int, resampled: int, tile: int, overlap: int) -> Iterator[Span]:
  """Lays tiles over one axis.

  Args:
    size: As for `tile_size`.
    resampled: As for `tile_size`.
    tile: What `tile_size` returns.
    overlap: As for `tile_size`.

  Returns:
    The tiles from first to last.
  """
  last = _ceil(resampled) - tile
  step = max(tile - overlap, 1)
  starts = [min(start, last) for start in range(0, last + step, step)]
  scale = resampled / size
  # Resampling reads beyond a tile's ends.
  more = 1 + max(1, 1 / scale) if scale != 1 else 0
  window = size if not last else min(size, math.ceil(tile / scale + 2 * more))
  for number, start in enumerate(starts):
    first = max(0, min(math.floor(start / scale - more), size - window))
    # As the network pads: mirrored beyond the last pixel.
    new = np.arange(start, start + tile) % (2 * resampled)
    new = np.minimum(new, 2 * resampled - 1 - new)
    enter = _taps((new + 0.5) / scale - 0.5, 1 / scale, size, first, window)
    at = (np.arange(first, first + window) + 0.5) * scale - 0.5
    leave = _taps(at, scale, resampled, start, tile)
    # Only neighbours, and at the end theirs, share pixels.
    near = starts[max(number - 2, 0) : number + 3]
    shares = np.array([_ramp(at, s, tile, overlap, last) for s in near])
    blend = shares[near.index(start)] / shares.sum(0)
    yield Span(first, enter, leave, blend.astype(np.float32))


def _ramp(
  at: np.ndarray, start: int, tile: int, overlap: int, last: int
) -> np.ndarray:
  """Returns the weight of a tile: 1 inside, falling to 0 towards its ends.

  It falls over the middle half of the overlap, since the outer quarter, where
  the network sees least of the image, should not count. The image's own ends
  are no ends.
  """
  weight = np.ones(at.size)
  for depth, inside in (
    (at + 0.5 - start, start > 0),
    (start + tile - at - 0.5, start < last),
  ):
    if inside:
      ramp = (depth - overlap / 4) / (overlap / 2)
      weight = np.minimum(weight, np.clip(ramp, 0, 1))
  return weight


def _taps(
  at: np.ndarray, ratio: float, size: int, first: int, length: int
) -> Taps:
  """Makes the taps of linear resampling, the same as `jax.image.resize`.

  Args:
    at: Where to sample, in pixels of an axis, float64 (n,).
    ratio: Pixels of that axis per new one; above 1 they are averaged.
    size: Pixels of the axis.
    first: Its first pixel that there is to read.
    length: How many there are to read.
  """
  # Of equal sizes every pixel is its own; half a pixel keeps the others out.
  reach = 0.5 if ratio == 1 else max(1, ratio)
  taps = np.arange(math.ceil(2 * reach))[:, None]
  index = np.floor(at - reach).astype(np.int64) + 1 + taps
  weight = np.maximum(1 - np.abs(index - at) / reach, 0)
  low, high = max(0, first), min(size, first + length)
  weight[(index < low) | (index >= high)] = 0
  total = weight.sum(0)
  weight = np.divide(weight, total, np.zeros_like(weight), where=total > 0)
  index = np.clip(index - first, 0, length - 1)
  return Taps(index.astype(np.int32), weight.astype(np.float32))
