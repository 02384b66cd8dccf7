"""Geometry of tiles: their layout, resampling and blending weights.

Tiles lie on the grid of the network's input, the image after resampling, at
multiples of the network's stride, so that away from its ends a tile gives what
the network would compute on the whole image. Along each axis, a tile is
described by tables that hold all that differs between tiles, so that a single
compiled program serves them all. Uses NumPy only.
"""

from collections.abc import Iterator
import math
from typing import NamedTuple

import numpy as np

from cellseg_jax.config import STRIDE


class Taps(NamedTuple):
  """Linear resampling along one axis, as a weighted sum of pixels.

  Attributes:
    pixels: Indices of the K pixels to read for each of n new ones, int32 (K,
      n).
    weight: Their weights, float32 (K, n), which sum to 1 for each new pixel, or
      to 0 if none of its source pixels is available.
  """

  pixels: np.ndarray
  weight: np.ndarray


class Span(NamedTuple):
  """A tile along one axis, and the window of the image that it reads.

  Attributes:
    first: First pixel of the window; all windows are of the same size, N.
    enter: Resampling from the window to the tile.
    leave: Resampling from the tile to the window.
    blend: Weight of the tile in each pixel of the window, float32 (N,); the
      weights of all tiles sum to 1.
  """

  first: int
  enter: Taps
  leave: Taps
  blend: np.ndarray


def tile_size(size: int, resampled: int, tile: int, overlap: int) -> int:
  """Returns the smallest tile side that needs no more tiles than the largest.

  Args:
    size: Pixels of the image along the axis.
    resampled: Pixels of the network's input along the axis.
    tile: Most pixels of a tile in the network's input; a tile may cover up to
      twice as many pixels of the image. Raised to twice the overlap if less.
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
  """Rounds up to a multiple of the network's stride."""
  return math.ceil(pixels / STRIDE) * STRIDE


def spans(size: int, resampled: int, tile: int, overlap: int) -> Iterator[Span]:
  """Divides one axis into tiles.

  Args:
    size: Pixels of the image along the axis.
    resampled: Pixels of the network's input along the axis.
    tile: Side of a tile, as `tile_size` returns it.
    overlap: Pixels of the network's input that neighbouring tiles share; a
      multiple of the stride.

  Yields:
    The tiles from first to last.
  """
  last = _ceil(resampled) - tile
  step = max(tile - overlap, 1)
  starts = [min(start, last) for start in range(0, last + step, step)]
  scale = resampled / size
  # Resampling reads this many image pixels beyond a tile's ends.
  more = 1 + max(1, 1 / scale) if scale != 1 else 0
  window = size if not last else min(size, math.ceil(tile / scale + 2 * more))
  for number, start in enumerate(starts):
    first = max(0, min(math.floor(start / scale - more), size - window))
    # Mirrored beyond the last pixel, as the network pads its input.
    new = np.arange(start, start + tile) % (2 * resampled)
    new = np.minimum(new, 2 * resampled - 1 - new)
    enter = _taps((new + 0.5) / scale - 0.5, 1 / scale, size, first, window)
    at = (np.arange(first, first + window) + 0.5) * scale - 0.5
    leave = _taps(at, scale, resampled, start, tile)
    # Only tiles up to two apart share pixels: neighbours and, at the end, where
    # the last tile is moved back, the neighbours of those.
    near = starts[max(number - 2, 0) : number + 3]
    shares = np.array([_ramp(at, s, tile, overlap, last) for s in near])
    blend = shares[near.index(start)] / shares.sum(0)
    yield Span(first, enter, leave, blend.astype(np.float32))


def _ramp(
  at: np.ndarray, start: int, tile: int, overlap: int, last: int
) -> np.ndarray:
  """Returns the weight of a tile: 1 inside, falling to 0 towards its ends.

  The weight falls linearly over the middle half of the overlap; the outermost
  quarter, where the network sees the least context, has weight 0. At the ends
  of the image the weight stays 1.

  Args:
    at: Positions in pixels of the network's input, float64 (N,).
    start: First pixel of the tile.
    tile: Side of the tile.
    overlap: Pixels that neighbouring tiles share.
    last: First pixel of the last tile.
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
  """Computes the taps of linear resampling, equal to `jax.image.resize`.

  Args:
    at: Positions to sample, in pixels of the source axis, float64 (n,).
    ratio: Source pixels per new pixel; above 1 several are averaged.
    size: Pixels of the source axis.
    first: First source pixel that is available.
    length: Number of source pixels that are available.
  """
  # At ratio 1 every pixel is copied; a reach of 0.5 excludes its neighbours.
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
