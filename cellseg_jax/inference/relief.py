"""Peaks and passes of cell pieces, and merging pieces across shallow passes.

The `ascent` decoder describes its basins this way, so that they can be merged
without the pixels.
"""

from typing import NamedTuple

import numpy as np


class Relief(NamedTuple):
  """The peaks of n pieces and the p passes between those that touch.

  Attributes:
    height: Height of each piece's highest pixel, float (n,).
    summit: Flat index of that pixel, int64 (n,).
    one: Index, from 0, of the piece on one side of each pass, int (p,).
    other: Index of the piece on the other side, int (p,).
    low: Height of each pass, float (p,).
  """

  height: np.ndarray
  summit: np.ndarray
  one: np.ndarray
  other: np.ndarray
  low: np.ndarray


def unite(relief: Relief, sets: np.ndarray, count: int) -> Relief:
  """Combines the relief of pieces into that of sets of pieces.

  Args:
    relief: The relief of n pieces.
    sets: The set of each piece, from 0, int (n,).
    count: Number of sets.
  """
  order = np.lexsort((relief.summit, relief.height))
  height = np.empty(count, relief.height.dtype)
  summit = np.empty(count, np.int64)
  # A set's highest piece, or of several the one with the latest summit, comes
  # last, and the last assignment stays.
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
  """Keeps only the highest pass between every two pieces.

  Args:
    one: Index of the piece on one side of each pass, int (p,).
    other: Index of the piece on the other side, int (p,).
    low: Height of each pass, float (p,).

  Returns:
    The same three arrays for the passes kept, one per pair of pieces, where
    the first index of a pair is the lower one.
  """
  one, other = np.minimum(one, other), np.maximum(one, other)
  pair = one * (np.int64(other.max(initial=0)) + 1) + other
  order = np.argsort(pair)
  pair = pair[order]
  first = np.flatnonzero(np.append(True, pair[1:] != pair[:-1])[: pair.size])
  which = order[first]
  low = np.maximum.reduceat(low[order], first) if first.size else low
  return one[which], other[which], low


def merge(relief: Relief, depth: float) -> np.ndarray:
  """Merges basins across shallow passes until no shallow pass is left.

  In every round, each basin considers its highest pass to a basin with a higher
  peak, and joins that basin if the pass lies less than `depth` below its own
  peak.

  Args:
    relief: The relief of n basins.
    depth: The least drop from the lower of two peaks to the pass between them
      that keeps two basins separate.

  Returns:
    For each basin the index of the basin that it was merged into, which has the
    highest peak of its group, int (n,).
  """
  peak, summit, one, other, low = relief
  owner = np.arange(peak.size)
  rank = np.empty(peak.size, np.int64)  # Of equal peaks, the later is higher.
  rank[np.lexsort((summit, peak))] = owner
  while True:
    swap = rank[one] > rank[other]
    lower, upper = np.where(swap, other, one), np.where(swap, one, other)
    # Each lower basin's highest pass comes last; only that one is considered.
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
