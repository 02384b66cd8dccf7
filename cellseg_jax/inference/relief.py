"""Peaks of pieces of cells, and merging across the passes between them."""

from typing import NamedTuple

import numpy as np


class Relief(NamedTuple):
  """Peaks of n pieces, and the passes between those that touch.

  Attributes:
    height: Height of each piece's highest pixel, float (n,).
    summit: Place of that pixel, int64 (n,).
    one: For each pass the number of one piece, from 0, int (p,).
    other: Number of the piece on its other side, int (p,).
    low: Height of the pass, float (p,).
  """

  height: np.ndarray
  summit: np.ndarray
  one: np.ndarray
  other: np.ndarray
  low: np.ndarray


def unite(relief: Relief, sets: np.ndarray, count: int) -> Relief:
  """Returns the relief of sets of pieces.

  Args:
    relief: Of n pieces.
    sets: The set of each, from 0, int (n,).
    count: Sets.
  """
  order = np.lexsort((relief.summit, relief.height))
  height = np.empty(count, relief.height.dtype)
  summit = np.empty(count, np.int64)
  # A set's highest piece comes last and stays; of equal ones the later pixel.
  height[sets[order]] = relief.height[order]
  summit[sets[order]] = relief.summit[order]
  one, other = sets[relief.one], sets[relief.other]
  apart = one != other
  return Relief(
    height, summit, *highest(one[apart], other[apart], relief.low[apart])
  )


def highest(
  one: np.ndarray, other: np.ndarray, low: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Keeps the highest pass of every two pieces; see `Relief`."""
  one, other = np.minimum(one, other), np.maximum(one, other)
  pair = one * (np.int64(other.max(initial=0)) + 1) + other
  order = np.argsort(pair)
  pair = pair[order]
  first = np.flatnonzero(np.append(True, pair[1:] != pair[:-1])[: pair.size])
  which = order[first]
  low = np.maximum.reduceat(low[order], first) if first.size else low
  return one[which], other[which], low


def merge(relief: Relief, depth: float) -> np.ndarray:
  """Merges basins across shallow passes, until none is left.

  In every round each basin looks at its highest pass to a basin with a higher
  peak, and joins that if the pass lies less than `depth` below its own peak.

  Args:
    relief: Of n basins.
    depth: The least drop from the lower of two peaks to the pass between them
      that keeps two cells apart.

  Returns:
    For each basin the one, of the highest peak, that it belongs to, (n,).
  """
  peak, summit, one, other, low = relief
  owner = np.arange(peak.size)
  rank = np.empty(peak.size, np.int64)  # Of equal peaks, the later is higher.
  rank[np.lexsort((summit, peak))] = owner
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
    parent = roots(parent)
    owner = parent[owner]
    one, other = parent[lower], parent[upper]
    apart = one != other
    one, other, low = one[apart], other[apart], low[apart]


def roots(parent: np.ndarray) -> np.ndarray:
  """Follows every pointer to its end, doubling the stride (pointer jumping)."""
  while True:
    further = parent[parent]
    if np.array_equal(further, parent):
      return parent
    parent = further
