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

MAPS = ('foreground', 'distance', 'centre')
CANDIDATES = {
  'threshold': (0.5, 0.3, 0.4, 0.6, 0.7, 0.8),
  'centre_share': (0.5, 0.0, 0.25, 0.75, 1.0),
  'depth': (0.1, 0.02, 0.04, 0.07, 0.15, 0.2, 0.3),
}

# Half of the eight neighbours; the others are their opposites.
_STEPS = ((0, 1), (1, 0), (1, 1), (1, -1))


def separate(
  maps: Mapping[str, np.ndarray], settings: Mapping[str, float]
) -> np.ndarray:
  """Labels the basins of the height within the foreground.

  Args:
    maps: `foreground`, `distance` and `centre`, float (H, W), 0 to 1.
    settings: `threshold`: pixels of a higher foreground are cell.
      `centre_share`: share of the centre map in the height, 0 to 1; the rest
      is the distance map's. `depth`: the least drop from the lower of two
      peaks to the pass between them that keeps two cells apart.

  Returns:
    int32 (H, W); 1 to n are the cells in the order of their first pixels.
  """
  share = settings['centre_share']
  height = (1 - share) * maps['distance'] + share * maps['centre']
  foreground = maps['foreground'] > settings['threshold']
  peaks = climb(height, foreground)
  basins, passes = _passes(height, foreground, peaks)
  owner = _merge(height.ravel()[basins], passes, settings['depth'])
  return _number(peaks, foreground, basins[owner])


def climb(height: np.ndarray, foreground: np.ndarray) -> np.ndarray:
  """Finds the peak that steepest ascent within the foreground leads to.

  Args:
    height: float (H, W).
    foreground: bool (H, W).

  Returns:
    Flat index of each pixel's peak, int64 (H, W); of background, its own. Of
    equal heights the later pixel counts as higher.
  """
  rows, columns = height.shape
  index = np.arange(height.size).reshape(height.shape)
  best = np.where(foreground, height, -np.inf)
  start, parent = best.copy(), index.copy()
  for dy, dx in (*_STEPS, *((-y, -x) for y, x in _STEPS)):
    here, there = _pair(dy, dx, rows, columns)
    value, other = start[there], index[there]
    higher = (value > best[here]) | (
      (value == best[here]) & (other > parent[here])
    )
    higher &= foreground[here] & foreground[there]
    best[here] = np.where(higher, value, best[here])
    parent[here] = np.where(higher, other, parent[here])
  return _roots(parent.ravel()).reshape(height.shape)


def _pair(
  dy: int, dx: int, rows: int, columns: int
) -> tuple[tuple[slice, slice], tuple[slice, slice]]:
  """Slices of all pixels with a neighbour at (dy, dx), and of those."""
  here = (
    slice(max(-dy, 0), rows - max(dy, 0)),
    slice(max(-dx, 0), columns - max(dx, 0)),
  )
  there = (
    slice(max(dy, 0), rows + min(dy, 0)),
    slice(max(dx, 0), columns + min(dx, 0)),
  )
  return here, there


def _roots(parent: np.ndarray) -> np.ndarray:
  """Follows every pointer to its end, doubling the stride (pointer jumping)."""
  while True:
    further = parent[parent]
    if np.array_equal(further, parent):
      return parent
    parent = further


def _passes(
  height: np.ndarray, foreground: np.ndarray, peaks: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Finds which basins touch, and how high the pass between them is.

  Returns:
    The flat index of every basin's peak, sorted; and for every pair of
    touching pixels of two basins the places of both in that list and the lower
    of the pixels' heights.
  """
  basins = np.unique(peaks[foreground])
  pairs = []
  for step in _STEPS:
    here, there = _pair(*step, *height.shape)
    apart = foreground[here] & foreground[there] & (peaks[here] != peaks[there])
    low = np.minimum(height[here], height[there])
    pairs.append((peaks[here][apart], peaks[there][apart], low[apart]))
  one, other, low = (np.concatenate(part) for part in zip(*pairs, strict=True))
  return basins, (
    np.searchsorted(basins, one),
    np.searchsorted(basins, other),
    low,
  )


def _merge(
  peak: np.ndarray,
  passes: tuple[np.ndarray, np.ndarray, np.ndarray],
  depth: float,
) -> np.ndarray:
  """Merges basins across shallow passes, until none is left.

  In every round each basin looks at its highest pass to a basin with a higher
  peak, and joins that if the pass lies less than `depth` below its own peak.

  Args:
    peak: Height of each basin's peak, (B,).
    passes: As `_passes` returns.
    depth: See `separate`.

  Returns:
    For each basin the one, of the highest peak, that it belongs to, (B,).
  """
  owner = np.arange(peak.size)
  one, other, low = passes
  rank = np.empty(peak.size, np.int64)  # Of equal peaks, the later is higher.
  rank[np.argsort(peak, kind='stable')] = owner
  while True:
    swap = rank[one] > rank[other]
    lower, upper = np.where(swap, other, one), np.where(swap, one, other)
    # Each lower basin's highest pass comes last, and is what is written.
    order = np.lexsort((rank[upper], low, lower))
    lower, upper, low = lower[order], upper[order], low[order]
    best = np.append(lower[1:] != lower[:-1], True)[: lower.size]
    joins = best & (peak[lower] - low < depth)
    if not joins.any():
      return owner
    parent = np.arange(peak.size)
    parent[lower[joins]] = upper[joins]
    parent = _roots(parent)
    owner = parent[owner]
    one, other = parent[lower], parent[upper]
    apart = one != other
    one, other, low = one[apart], other[apart], low[apart]


def _number(
  peaks: np.ndarray, foreground: np.ndarray, owner: np.ndarray
) -> np.ndarray:
  """Numbers the merged basins in the order of their first pixels.

  Args:
    peaks: As `climb` returns, (H, W).
    foreground: bool (H, W).
    owner: For each basin, in the order of its peaks, the peak of its cell.
  """
  basins = np.unique(peaks[foreground])
  cells = owner[np.searchsorted(basins, peaks[foreground])]
  _, first, inverse = np.unique(cells, return_index=True, return_inverse=True)
  number = np.empty(first.size, np.int32)
  number[np.argsort(first)] = np.arange(1, first.size + 1)
  labels = np.zeros(peaks.shape, np.int32)
  labels[foreground] = number[inverse]
  return labels
