"""Pieces of cells: what decoders find per block, and how pieces become cells.

A decoder's pieces in a block (`Found`) are reduced to a `Summary`; `PieceTable`
gathers the summaries of all blocks and joins the pieces to cells.
"""

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
  """The pieces that a decoder found in a block.

  Attributes:
    labels: Labels of the block and its frame, int32 (h + 2, w + 2); 0 is
      background, 1 to n are the pieces.
    relief: Peaks and passes of the pieces, with flat indices into `labels`;
      None from a decoder whose pieces never touch.
    number: Number of pieces, n.
  """

  labels: np.ndarray
  relief: Relief | None
  number: int


class Summary(NamedTuple):
  """The data on a block's pieces that joining them to cells requires.

  Attributes:
    number: Number of pieces, n.
    border: The pieces along the block's border.
    first: Flat index in the image of each piece's first pixel, int64 (n,).
    totals: Totals from which the confidence is computed.
    relief: Peaks and passes of the pieces, with flat indices into the image;
      None from a decoder whose pieces never touch.
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
  """Summarises the pieces of a block.

  Args:
    box: The block, of height h and width w.
    found: The pieces in the block.
    maps: The maps that the decoder reads, without frame, float (h, w), 0 to 1;
      the confidence uses `foreground` and, if present, `centre`.
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
  """Gathers the pieces of all blocks and joins them into cells."""

  def __init__(self) -> None:
    self._seams = Seams()
    self._count = 0
    self._first: list[np.ndarray] = []
    self._totals: list[Totals] = []
    self._reliefs: list[Relief] = []

  def add(self, pieces: Summary) -> int:
    """Adds the pieces of a block.

    Returns:
      The number of pieces added before: the block's offset, which turns its
      piece n into piece offset + n of the image.
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
    """Joins the pieces into cells.

    Args:
      depth: The least drop from the lower of two peaks to the pass between
        them that separates two cells; ignored for pieces without a relief.
      least: Lowest confidence of a cell; cells below it are dropped.

    Returns:
      The cell of each piece, int32 (pieces + 1,), where entry 0 stands for
      background and is 0: 1 to n in the order of the cells' first pixels, or 0
      if the cell is dropped; and the area of each cell in pixels, int64
      (n + 1,), where entry 0 is 0.
    """
    count, sets = self._seams.sets(self._count)
    if self._reliefs:
      relief = Relief(*map(np.concatenate, zip(*self._reliefs, strict=True)))
      sets = merge(unite(relief, sets, count), depth)[sets]
    first = np.full(count, np.iinfo(np.int64).max)
    np.minimum.at(first, sets, np.concatenate(self._first))
    parts = Totals(*map(np.concatenate, zip(*self._totals, strict=True)))
    totals = confidence_lib.combine(parts, sets, count)
    # Merging leaves sets without pixels; only a basin's surviving set has any.
    keep = (totals.area > 0) & (confidence_lib.from_totals(totals) >= least)
    kept = np.flatnonzero(keep)
    kept = kept[np.argsort(first[kept])]
    number = np.zeros(count, np.int32)
    number[kept] = np.arange(1, kept.size + 1)
    area = totals.area[kept].astype(np.int64)
    return np.append(np.int32(0), number[sets]), np.append(0, area)


def first_pixels(labels: np.ndarray, count: int) -> np.ndarray:
  """Returns the flat index of each piece's first pixel, int64 (count,)."""
  places = np.flatnonzero(labels)
  first = np.empty(count + 1, np.int64)
  # In reverse order, because the last of several assignments to a piece stays.
  first[labels.ravel()[places[::-1]]] = places[::-1]
  return first[1:]
