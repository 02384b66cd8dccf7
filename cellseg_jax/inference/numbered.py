"""A label image whose blocks are numbered separately but read as one numbering.

A block being decoded does not know how many pieces earlier blocks have. Its
pieces are therefore stored with numbers local to the block, and are converted
on reading, so that no block is written twice.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from cellseg_jax.inference.blocks import Array


class Numbered:
  """A label image that converts block-local numbers to global ones on reading.

  A stored value of -n stands for piece n of the block and reads as n plus the
  block's offset; values of 0 and above read as they are.

  Attributes:
    image: The stored values, int32 (H, W).
    shape: Height and width.
  """

  def __init__(
    self, image: Array, block: tuple[int, int], offsets: Sequence[int]
  ) -> None:
    """Wraps stored values and the offsets of their blocks.

    Args:
      image: The stored values, int32 (H, W).
      block: Height and width of the blocks, as returned by `blocks.cut`.
      offsets: Offset of each block, in reading order.
    """
    self.image, self.shape = image, (image.shape[0], image.shape[1])
    self._block = max(block[0], 1), max(block[1], 1)  # 0 for an empty image.
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
  """Divides a range of rows or columns among the blocks.

  Args:
    pixels: Consecutive rows or columns.
    side: Side of the blocks along that axis.

  Yields:
    The index of each block, and the start and end of its part relative to the
    start of `pixels`.
  """
  for block in range(pixels.start // side, -(-pixels.stop // side)):
    first = max(block * side, pixels.start)
    last = min((block + 1) * side, pixels.stop)
    yield block, first - pixels.start, last - pixels.start
