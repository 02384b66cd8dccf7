"""Cells as basins: every pixel climbs to a peak, shallow valleys are closed.

The height mixes the predicted distance and centre maps. Each foreground pixel
points to its highest neighbour; the pixels whose paths end on one peak are a
basin. Basins then merge into higher ones as long as the valley between them is
shallow (h-maxima; Vincent, IEEE TIP 1993), by union-find on whole basins. Every
step is local or a merge of pieces, so that parts of an image give the labels of
the whole.
"""

from collections.abc import Mapping, Sequence

import numpy as np

from cellseg_jax.inference.confidence import confidence

MAPS = ('foreground', 'distance', 'centre')
CANDIDATES = {
  'threshold': (0.5, 0.3, 0.4, 0.6, 0.7, 0.8),
  'centre_share': (0.5, 0.0, 0.25, 0.75, 1.0),
  'depth': (0.1, 0.02, 0.04, 0.07, 0.15, 0.2, 0.25, 0.3, 0.4),
  'confidence': (0.0, 0.4, 0.45, 0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8),
}


def separate(
  maps: Mapping[str, np.ndarray], settings: Mapping[str, float]
) -> np.ndarray:
  """Labels the basins of the height within the foreground.

  Args:
    maps: `foreground`, `distance` and `centre`, float (H, W), 0 to 1.
    settings: `threshold`: pixels of a higher foreground are cell.
      `centre_share`: share of the centre map in the height, 0 to 1; the rest
      is the distance map's. `depth`: the least drop from the lower of two
      peaks to the pass between them that keeps two cells apart. `confidence`:
      the least `confidence` of a cell.

  Returns:
    int32 (H, W); 1 to n are the cells in the order of their first pixels.
  """
  share = settings['centre_share']
  height = (1 - share) * maps['distance'] + share * maps['centre']
  foreground = maps['foreground'] > settings['threshold']
  # Only the pixels of the foreground are worked on, as flat lists; around them
  # lies a frame, so that every one has eight neighbours.
  framed = np.pad(
    np.where(foreground, height, -np.inf), 1, constant_values=-np.inf
  )
  pixels = np.flatnonzero(np.isfinite(framed))
  place = np.full(framed.size, -1)
  place[pixels] = np.arange(pixels.size)
  row = framed.shape[1]
  neighbours = [
    place[pixels + step]
    for step in (1, row, row + 1, row - 1, -1, -row, -row - 1, 1 - row)
  ]
  heights = framed.ravel()[pixels]
  peaks = climb(heights, neighbours)
  basins, passes = _passes(heights, neighbours[:4], peaks)
  owner = _merge(heights[basins], passes, settings['depth'])
  cells = _number(owner[np.searchsorted(basins, peaks)])
  labels = np.zeros(foreground.shape, np.int32)
  values = {name: maps[name][foreground] for name in ('foreground', 'centre')}
  labels[foreground] = _drop_unsure(cells, values, settings['confidence'])
  return labels


def climb(heights: np.ndarray, neighbours: Sequence[np.ndarray]) -> np.ndarray:
  """Finds the peak that steepest ascent leads to from each pixel.

  Args:
    heights: float (P,), of the pixels of the foreground.
    neighbours: int64 (P,) for each direction: the place of each pixel's
      neighbour in the list, -1 where that is background.

  Returns:
    The place of each pixel's peak, int64 (P,). Of equal heights the later
    pixel counts as higher.
  """
  best, parent = heights.copy(), np.arange(heights.size)
  for other in neighbours:
    value = heights[other]
    higher = (value > best) | ((value == best) & (other > parent))
    higher &= other >= 0
    best = np.where(higher, value, best)
    parent = np.where(higher, other, parent)
  return _roots(parent)


def _roots(parent: np.ndarray) -> np.ndarray:
  """Follows every pointer to its end, doubling the stride (pointer jumping)."""
  while True:
    further = parent[parent]
    if np.array_equal(further, parent):
      return parent
    parent = further


def _passes(
  heights: np.ndarray, neighbours: Sequence[np.ndarray], peaks: np.ndarray
) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray, np.ndarray]]:
  """Finds which basins touch, and how high the pass between them is.

  Args:
    heights: As for `climb`.
    neighbours: As for `climb`, of four directions, not two of them opposite.
    peaks: As `climb` returns.

  Returns:
    The place of every basin's peak, sorted; and for every pair of touching
    pixels of two basins the numbers of both and the lower of the heights.
  """
  basins = np.unique(peaks)
  pairs = []
  for other in neighbours:
    apart = np.flatnonzero((other >= 0) & (peaks != peaks[other]))
    beyond = other[apart]
    low = np.minimum(heights[apart], heights[beyond])
    pairs.append((peaks[apart], peaks[beyond], low))
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


def _number(cells: np.ndarray) -> np.ndarray:
  """Numbers cells from 1 in the order of their first pixels, int32 (P,)."""
  _, first, inverse = np.unique(cells, return_index=True, return_inverse=True)
  number = np.empty(first.size, np.int32)
  number[np.argsort(first)] = np.arange(1, first.size + 1)
  return number[inverse]


def _drop_unsure(
  cells: np.ndarray, maps: Mapping[str, np.ndarray], least: float
) -> np.ndarray:
  """Sets to 0 the cells whose confidence is below `least`.

  Args:
    cells: int32 (P,), from 1.
    maps: Those that `confidence` reads, float (P,).
    least: 0 drops none.

  Returns:
    int32 (P,), numbered anew from 1.
  """
  keep = np.append(False, confidence(cells, maps) >= least)
  return np.where(keep, np.cumsum(keep), 0).astype(np.int32)[cells]
