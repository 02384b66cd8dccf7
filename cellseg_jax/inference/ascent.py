"""Cells as basins: every pixel climbs to a peak, shallow valleys are closed.

The height mixes the predicted distance and centre maps. Each foreground pixel
points to its highest neighbour; the pixels whose paths end on one peak are a
basin. Basins then merge into higher ones as long as the valley between them is
shallow (h-maxima; Vincent, IEEE TIP 1993), by union-find on whole basins. Every
step is local or a merge of pieces, so that parts of an image give the labels of
the whole.
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

# A pixel and its neighbours in reading order, as rows and columns away.
_AROUND = tuple((y, x) for y in (-1, 0, 1) for x in (-1, 0, 1))
_ITSELF = _AROUND.index((0, 0))


def find(
  maps: Mapping[str, np.ndarray], settings: Mapping[str, float]
) -> Found:
  """Finds the basins of the height within the foreground.

  Args:
    maps: `foreground`, `distance` and `centre`, float (h + 2, w + 2), 0 to 1,
      of a block and its frame.
    settings: `threshold`: pixels of a higher foreground are cell.
      `centre_share`: share of the centre map in the height, 0 to 1; the rest
      is the distance map's.

  Returns:
    The basins, and the passes between them. A path that leaves the block ends
    in the frame, whose every pixel is a piece of its own.
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
  """Finds where steepest ascent ends from each pixel.

  Args:
    height: float (h + 2, w + 2), of a block and its frame; -inf in background.
    pixels: Places of the others in the flat height, sorted, int64 (P,).

  Returns:
    The index of each pixel's end in `pixels`, int64 (P,): a peak, or a pixel of
    the frame. Of equal heights the later pixel counts as higher.
  """
  way = np.full(height.shape, _ITSELF, np.uint8)
  way[1:-1, 1:-1] = _highest_neighbours(height)
  steps = np.array([y * height.shape[1] + x for y, x in _AROUND])
  index = np.empty(height.size, np.int32)
  index[pixels] = np.arange(pixels.size)
  ends = index[pixels + steps[way.ravel()[pixels]]].astype(np.int64)
  return roots(ends)


def _highest_neighbours(height: np.ndarray) -> np.ndarray:
  """Returns the place in `_AROUND` of the highest, uint8 (h, w); see `climb`.

  First of three along each row, then of the three rows: half of the comparisons
  of all nine. In reading order the last of equals is in the last of such rows.
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
  """Returns what lies a step away from each pixel within the frame."""
  (y, x), (height, width) = step, values.shape
  return values[1 + y : height - 1 + y, 1 + x : width - 1 + x]


def _passes(
  height: np.ndarray, labels: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Finds which basins touch, and how high the highest pass between them is.

  Args:
    height: As for `climb`.
    labels: The basins, from 1, int32 (h + 2, w + 2).

  Returns:
    `one`, `other` and `low` of `Relief`, for pixels of the block and those that
    follow them.
  """
  here, pairs = labels[1:-1, 1:-1], []
  width = labels.shape[1]
  height, flat = height.ravel(), labels.ravel()
  for step in _AROUND[_ITSELF + 1 :]:
    # Few pixels differ from their neighbours: all else is asked of these alone.
    pixels = np.flatnonzero(here != _neighbours(labels, step))
    pixels += 2 * (pixels // (width - 2)) + width + 1  # In the frame.
    beside = pixels + step[0] * width + step[1]
    both = (flat[pixels] > 0) & (flat[beside] > 0)
    pixels, beside = pixels[both], beside[both]
    low = np.minimum(height[pixels], height[beside])
    pairs.append((flat[pixels] - 1, flat[beside] - 1, low))
  return highest(*(np.concatenate(part) for part in zip(*pairs, strict=True)))
