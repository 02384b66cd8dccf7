"""Which pieces of different blocks are one: union-find along the seams.

A block is looked at with a frame of one pixel around it. The pixels of the
frame belong to the neighbouring blocks, too: what two blocks call one pixel is
one piece.
"""

from typing import NamedTuple

import numpy as np
from scipy import sparse

from cellseg_jax.inference.blocks import Box


class Border(NamedTuple):
  """The pieces along a block's border.

  Attributes:
    edge: Places in the flat image of the block's outermost pixels that are of a
      piece, and the piece of each, from 0; int64 (n,) each.
    frame: The same of the pixels around the block.
  """

  edge: tuple[np.ndarray, np.ndarray]
  frame: tuple[np.ndarray, np.ndarray]


def border(box: Box, labels: np.ndarray, shape: tuple[int, int]) -> Border:
  """Looks along a block's border.

  Args:
    box: The block.
    labels: int32 (h + 2, w + 2), with the frame; 0 is none, 1 to n are the
      block's pieces.
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
  """Finds out which pieces of different blocks are one."""

  def __init__(self) -> None:
    self._edges: list[tuple[np.ndarray, np.ndarray]] = []
    self._frames: list[tuple[np.ndarray, np.ndarray]] = []

  def add(self, border: Border, offset: int) -> None:
    """Takes note of a block's border.

    Args:
      border: As `border` returns.
      offset: Pieces in the blocks before.
    """
    for noted, (places, pieces) in (
      (self._edges, border.edge),
      (self._frames, border.frame),
    ):
      noted.append((places, pieces + offset))

  def sets(self, count: int) -> tuple[int, np.ndarray]:
    """Unites the pieces that share a pixel.

    Args:
      count: Pieces in all blocks.

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
  """Returns rows and columns of a box's outermost pixels; some come twice."""
  rows, columns = np.arange(box.top, box.bottom), np.arange(box.left, box.right)
  y, x = np.full(columns.size, box.top), np.full(rows.size, box.left)
  return (
    np.concatenate([y, y + box.shape[0] - 1, rows, rows]),
    np.concatenate([columns, columns, x, x + box.shape[1] - 1]),
  )


def place_in_image(places: np.ndarray, box: Box, width: int) -> np.ndarray:
  """Turns places in a flat framed block into places in the flat image."""
  y, x = np.divmod(places, box.shape[1] + 2)
  return (y + box.top - 1) * width + x + box.left - 1
