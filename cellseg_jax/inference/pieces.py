"""Pieces of cells: what a decoder finds in a block, and what they add up to."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

from cellseg_jax.inference import confidence as confidence_lib
from cellseg_jax.inference.blocks import Box
from cellseg_jax.inference.confidence import Totals
from cellseg_jax.inference.relief import merge, Relief, unite
from cellseg_jax.inference.seams import (
  Border,
  border,
  place_in_image,
  Seams,
)


class Found(NamedTuple):
  """The pieces in a block.

  Attributes:
    labels: int32 (h + 2, w + 2), of the block and its frame; 0 is background, 1
      to n are the pieces.
    relief: Of the pieces, with places in the flat `labels`; None from a decoder
      whose pieces never touch.
    number: n.
  """

  labels: np.ndarray
  relief: Relief | None
  number: int


class Summary(NamedTuple):
  """What is to be known of a block's n pieces to join them with the others.

  Attributes:
    number: n.
    border: Those along the block's border.
    first: Place of each piece's first pixel in the flat image, int64 (n,).
    totals: What their confidence is computed from.
    relief: As of `Found`, with places in the flat image.
  """

  number: int
  border: Border
  first: np.ndarray
  totals: Totals
  relief: Relief | None


def summarize(
  box: Box,
  found: Found,
  maps: Mapping[str, np.ndarray],
  shape: tuple[int, int],
) -> Summary:
  """Sums up the pieces of a block.

  Args:
    box: The block.
    found: Its pieces.
    maps: Those that the confidence is computed from, float (h, w).
    shape: Height and width of the image.
  """
  first = first_pixels(found.labels, found.number)
  relief = found.relief
  if relief is not None:
    summit = place_in_image(relief.summit, box, shape[1])
    relief = relief._replace(summit=summit)
  return Summary(
    found.number,
    border(box, found.labels, shape),
    place_in_image(first, box, shape[1]),
    confidence_lib.totals(found.labels[1:-1, 1:-1], maps, found.number),
    relief,
  )


class PieceTable:
  """Gathers the pieces of all blocks and joins them to cells."""

  def __init__(self) -> None:
    self._seams = Seams()
    self._count = 0
    self._first: list[np.ndarray] = []
    self._totals: list[Totals] = []
    self._reliefs: list[Relief] = []

  def add(self, pieces: Summary) -> int:
    """Adds the pieces of a block.

    Returns:
      How many there were before; from now on its n-th piece is so many plus n.
    """
    offset = self._count
    self._count += pieces.number
    self._seams.add(pieces.border, offset)
    self._first.append(pieces.first)
    self._totals.append(pieces.totals)
    if pieces.relief is not None:
      height, summit, one, other, low = pieces.relief
      self._reliefs.append(
        Relief(height, summit, one + offset, other + offset, low)
      )
    return offset

  def cells(self, depth: float, least: float) -> tuple[np.ndarray, np.ndarray]:
    """Joins the pieces.

    Args:
      depth: As for `relief.merge`, of pieces that have a relief.
      least: The least confidence of a cell.

    Returns:
      The cell of each piece, int32 (pieces + 1,), with 0 for background first:
      1 to n in the order of their first pixels, 0 if it is dropped. And the
      area of each cell in pixels, int64 (n + 1,), with 0 first.
    """
    count, sets = self._seams.sets(self._count)
    if self._reliefs:
      relief = Relief(*map(np.concatenate, zip(*self._reliefs, strict=True)))
      sets = merge(unite(relief, sets, count), depth)[sets]
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, sets, np.concatenate(self._first))
    parts = Totals(*map(np.concatenate, zip(*self._totals, strict=True)))
    totals = confidence_lib.combine(parts, sets, count)
    # Of pieces that were merged one alone gives its number to the cell.
    keep = (totals.area > 0) & (confidence_lib.from_totals(totals) >= least)
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(first[kept])]
    number = np.zeros(count, np.int32)
    number[kept] = np.arange(1, kept.size + 1)
    area = totals.area[kept].astype(np.int64)
    return np.append(np.int32(0), number[sets]), np.append(0, area)


def first_pixels(labels: np.ndarray, count: int) -> np.ndarray:
  """Returns the place of each piece's first pixel in the flat labels."""
  places = np.flatnonzero(labels)
  first = np.empty(count + 1, np.int64)
  # Of several values for one piece the last stays.
  first[labels.ravel()[places[::-1]]] = places[::-1]
  return first[1:]
