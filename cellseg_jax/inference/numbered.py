"""Pieces that are numbered block by block, seen as numbered throughout.

A block that is looked at does not know how many pieces the blocks before it
have. So it is written with numbers of its own, and never again.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cellseg_jax.inference.blocks import Array


class Numbered:
  """A label image, in which a block's own numbers become those of the image.

  Where the image holds -n, it is piece n of its block, and reads as n plus the
  block's offset; other pixels read as they are.

  Attributes:
    image: What is kept, int32 (H, W).
    shape: Height and width.
  """

  def __init__(
    self, image: Array, block: tuple[int, int], offsets: Sequence[int]
  ) -> None:
    """Sees an image through the offsets of its blocks.

    Args:
      image: What is kept.
      block: Height and width of the blocks, as `blocks.cut` makes them.
      offsets: Of every block, in reading order.
    """
    self.image, self.shape = image, (image.shape[0], image.shape[1])
    self._block = max(block[0], 1), max(block[1], 1)  # Of an empty image, 0.
    columns = max(-(-self.shape[1] // self._block[1]), 1)
    self._offsets = np.array(offsets, np.int32).reshape(-1, columns)

  def __getitem__(self, slices: Any) -> np.ndarray:
    pixels = np.array(self.image[slices])
    rows, columns = (
      range(size)[part] for size, part in zip(self.shape, slices, strict=True)
    )
    for i, above, below in _parts(rows, self._block[0]):
      for j, before, after in _parts(columns, self._block[1]):
        part = pixels[above:below, before:after]
        np.subtract(self._offsets[i, j], part, out=part, where=part < 0)
    return pixels


def _parts(pixels: range, side: int) -> Iterator[tuple[int, int, int]]:
  """Gives the blocks that pixels lie in, and where in these they begin and end.

  Args:
    pixels: Rows or columns, one after another.
    side: Of the blocks.
  """
  for block in range(pixels.start // side, -(-pixels.stop // side)):
    first = max(block * side, pixels.start)
    last = min((block + 1) * side, pixels.stop)
    yield block, first - pixels.start, last - pixels.start
