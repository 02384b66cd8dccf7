"""Joins pieces of different blocks across seams, as connected components.

Every block is decoded with a frame of one pixel around it, which belongs to the
neighbouring blocks. Where two blocks both assign a piece to the same pixel, the
two pieces are one.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from cellseg_jax.inference.blocks import Box


class Border(NamedTuple):
  """The pieces along a block's border.

  Attributes:
    edge: For the outermost pixels of the block that belong to a piece, the flat
      index in the image and the piece, from 0; int64 (n,) each.
    frame: The same for the pixels of the frame around the block.
  """

  edge: tuple[np.ndarray, np.ndarray]
  frame: tuple[np.ndarray, np.ndarray]


def border(box: Box, labels: np.ndarray, shape: tuple[int, int]) -> Border:
  """Extracts the pieces along a block's border.

  Args:
    box: The block.
    labels: Labels of the block and its frame, int32 (h + 2, w + 2); 0 is no
      piece, 1 to n are the block's pieces.
    shape: Height and width of the image.
  """
  framed = Box(box.top - 1, box.bottom + 1, box.left - 1, box.right + 1)

  def along(ring: Box) -> tuple[np.ndarray, np.ndarray]:
    y, x = _outline(ring)
    inside = (y >= 0) & (y < shape[0]) & (x >= 0) & (x < shape[1])
    y, x = y[inside], x[inside]
    found = labels[y - framed.top, x - framed.left].astype(np.int64)
    places = y * shape[1] + x
    return places[found > 0], found[found > 0] - 1

  return Border(along(box), along(framed))


class Seams:
  """Collects the borders of all blocks and joins the pieces that meet there."""

  def __init__(self) -> None:
    self._edges: list[tuple[np.ndarray, np.ndarray]] = []
    self._frames: list[tuple[np.ndarray, np.ndarray]] = []

  def add(self, border: Border, offset: int) -> None:
    """Adds a block's border.

    Args:
      border: The border, as the function `border` returns it.
      offset: Number of pieces in the blocks added before.
    """
    for noted, (places, pieces) in (
      (self._edges, border.edge),
      (self._frames, border.frame),
    ):
      noted.append((places, pieces + offset))

  def sets(self, count: int) -> tuple[int, np.ndarray]:
    """Joins the pieces that share a pixel.

    Args:
      count: Number of pieces in all blocks.

    Returns:
      The number of sets, and the set of each piece, from 0, int (count,).
    """
    places, pieces = _joined(self._edges)
    frame_places, frame_pieces = _joined(self._frames)
    order = np.argsort(places)
    position = np.searchsorted(places, frame_places, sorter=order)
    twins = pieces[order[position]]
    pairs = sparse.coo_array(
      (np.ones(twins.size, bool), (frame_pieces, twins)), (count, count)
    )
    return sparse.csgraph.connected_components(pairs, directed=False)


def _joined(
  parts: list[tuple[np.ndarray, np.ndarray]],
) -> tuple[np.ndarray, np.ndarray]:
  one, other = zip(*parts, strict=True)
  return np.concatenate(one), np.concatenate(other)


def _outline(box: Box) -> tuple[np.ndarray, np.ndarray]:
  """Returns rows and columns of a box's outermost pixels; corners repeat."""
  rows, columns = np.arange(box.top, box.bottom), np.arange(box.left, box.right)
  y, x = np.full(columns.size, box.top), np.full(rows.size, box.left)
  return (
    np.concatenate([y, y + box.shape[0] - 1, rows, rows]),
    np.concatenate([columns, columns, x, x + box.shape[1] - 1]),
  )


def place_in_image(places: np.ndarray, box: Box, width: int) -> np.ndarray:
  """Converts flat indices in a framed block to flat indices in the image.

  Args:
    places: Flat indices in the block with a frame of one pixel.
    box: The block.
    width: Width of the image.
  """
  y, x = np.divmod(places, box.shape[1] + 2)
  return (y + box.top - 1) * width + x + box.left - 1
