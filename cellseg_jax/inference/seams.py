"""Which pieces of different blocks are one: union-find along the seams.

A block is looked at with a frame of one pixel around it. The pixels of the
frame belong to the neighbouring blocks, too: what two blocks call one pixel is
one piece.
"""

import numpy as np
from scipy import sparse

from cellseg_jax.inference.blocks import Box


class Seams:
  """Finds out which pieces of different blocks are one."""

  def __init__(self, shape: tuple[int, int]) -> None:
    self._shape = shape
    self._edges: list[tuple[np.ndarray, np.ndarray]] = []
    self._frames: list[tuple[np.ndarray, np.ndarray]] = []

  def add(self, box: Box, labels: np.ndarray, offset: int) -> None:
    """Takes note of the pieces along a block's border.

    Args:
      box: The block.
      labels: int32 (h + 2, w + 2), with the frame; 0 is none, 1 to n are the
        block's pieces.
      offset: Pieces in the blocks before.
    """
    framed = Box(box.top - 1, box.bottom + 1, box.left - 1, box.right + 1)
    for noted, ring in ((self._edges, box), (self._frames, framed)):
      y, x = _outline(ring)
      inside = (y >= 0) & (y < self._shape[0]) & (x >= 0)
      inside &= x < self._shape[1]
      y, x = y[inside], x[inside]
      found = labels[y - framed.top, x - framed.left].astype(np.int64)
      places = y * self._shape[1] + x
      noted.append((places[found > 0], found[found > 0] - 1 + offset))

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
