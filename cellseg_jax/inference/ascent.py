"""The `ascent` decoder: finds cells as basins of a height map.

The height is a weighted mean of the predicted distance and centre maps. Each
foreground pixel points to its highest neighbour; the pixels whose paths end on
the same peak form a basin. Basins then merge into higher ones while the valley
between them is shallow (h-maxima; Vincent, IEEE TIP 1993), in rounds that join
whole basins. Every step is either local or a merge of pieces, so decoding an
image block by block gives the labels of decoding it whole.
"""

from collections.abc import Mapping

import numpy as np

from cellseg_jax.inference.pieces import Found
from cellseg_jax.inference.relief import highest, Relief, roots

MAPS = ('foreground', 'distance', 'centre')
CANDIDATES = {
  'threshold': (0.5, 0.3, 0.4, 0.6, 0.7, 0.8),
  'centre_share': (0.5, 0.0, 0.25, 0.75, 1.0),
  'depth': (0.1, 0.02, 0.04, 0.07, 0.15, 0.2, 0.25, 0.3, 0.4),
  'confidence': (0.0, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
}

# Row and column offsets of a pixel and its eight neighbours, in reading order.
_AROUND = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
_ITSELF = _AROUND.index((0, 0))


def find(
  maps: Mapping[str, np.ndarray], settings: Mapping[str, float]
) -> Found:
  """Finds the basins of the height within the foreground.

  Args:
    maps: `foreground`, `distance` and `centre`, float (h + 2, w + 2), 0 to 1,
      of a block with a frame of one pixel.
    settings: `threshold`: pixels with a foreground probability above it belong
      to cells. `centre_share`: weight of the centre map in the height, 0 to 1;
      the distance map has the remaining weight.

  Returns:
    The basins and the passes between them. A path that leaves the block ends
    in the frame, where every foreground pixel is a piece of its own.
  """
  share = settings['centre_share']
  height = (1 - share) * maps['distance'] + share * maps['centre']
  height[maps['foreground'] <= settings['threshold']] = -np.inf
  pixels = np.flatnonzero(height > -np.inf)
  ends = climb(height, pixels)
  itself = np.arange(pixels.size)
  summits = pixels[ends == itself]
  number = np.cumsum(ends == itself, dtype=np.int32)
  labels = np.zeros(height.shape, np.int32)
  labels.ravel()[pixels] = number[ends]
  relief = Relief(height.ravel()[summits], summits, *_passes(height, labels))
  return Found(labels, relief, summits.size)


def climb(height: np.ndarray, pixels: np.ndarray) -> np.ndarray:
  """Finds where the steepest ascent from each pixel ends.

  Ties in height are broken in favour of the later pixel in reading order.

  Args:
    height: float (h + 2, w + 2), of a block with its frame; -inf in background.
    pixels: Flat indices of the foreground pixels in `height`, sorted, int64
      (P,).

  Returns:
    For each pixel the position in `pixels` of the end of its path, int64 (P,):
    a peak, or a pixel of the frame.
  """
  way = np.full(height.shape, _ITSELF, np.uint8)
  way[1:-1, 1:-1] = _highest_neighbours(height)
  steps = np.array([y * height.shape[1] + x for y, x in _AROUND])
  index = np.empty(height.size, np.int32)
  index[pixels] = np.arange(pixels.size)
  ends = index[pixels + steps[way.ravel()[pixels]]].astype(np.int64)
  return roots(ends)


def _highest_neighbours(height: np.ndarray) -> np.ndarray:
  """Returns the index in `_AROUND` of the highest neighbour, uint8 (h, w).

  Compares three pixels along each row, then the three row maxima, which takes
  half the comparisons of all nine. Ties still go to the last pixel in reading
  order, because it lies in the last row that holds the maximum.
  """
  rows, columns = (side - 2 for side in height.shape)
  best = height[:, :columns].copy()
  column = np.zeros(best.shape, np.uint8)
  for number in (1, 2):
    value = height[:, number : columns + number]
    np.copyto(column, number, where=value >= best)
    np.maximum(best, value, out=best)
  highest, way = best[:rows].copy(), column[:rows].copy()
  for number in (1, 2):
    value = best[number : rows + number]
    there = column[number : rows + number] + np.uint8(3 * number)
    np.copyto(way, there, where=value >= highest)
    np.maximum(highest, value, out=highest)
  return way


def _neighbours(values: np.ndarray, step: tuple[int, int]) -> np.ndarray:
  """Returns the value one step away from each pixel of the block, (h, w)."""
  (y, x), (height, width) = step, values.shape
  return values[1 + y : height - 1 + y, 1 + x : width - 1 + x]


def _passes(
  height: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Finds which basins touch and the highest pass between each pair.

  Args:
    height: float (h + 2, w + 2), of a block with its frame; -inf in background.
    labels: The basins, from 1, int32 (h + 2, w + 2).

  Returns:
    `one`, `other` and `low` of `Relief`, from each pixel of the block and its
    four neighbours that come later in reading order.
  """
  here, pairs = labels[1:-1, 1:-1], []
  width = labels.shape[1]
  height, flat = height.ravel(), labels.ravel()
  for step in _AROUND[_ITSELF + 1 :]:
    # Few pixels differ from their neighbours; only those are examined further.
    pixels = np.flatnonzero(here != _neighbours(labels, step))
    pixels += 2 * (pixels // (width - 2)) + width + 1  # To framed flat indices.
    beside = pixels + step[0] * width + step[1]
    both = (flat[pixels] > 0) & (flat[beside] > 0)
    pixels, beside = pixels[both], beside[both]
    low = np.minimum(height[pixels], height[beside])
    pairs.append((flat[pixels] - 1, flat[beside] - 1, low))
  return highest(*(np.concatenate(part) for part in zip(*pairs, strict=True)))
