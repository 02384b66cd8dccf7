"""Pieces that are numbered block by block, seen as numbered throughout.

A block that is looked at does not know how many pieces the blocks before it
have. So it is written with numbers of its own, and never again.
"""

from collections.abc import Sequence
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
    self._block = block
    columns = -(-self.shape[1] // block[1])
    self._offsets = np.array(offsets, np.int32).reshape(-1, columns)

  def __getitem__(self, slices: Any) -> np.ndarray:
    pixels = np.asarray(self.image[slices])
    rows, columns = (
      np.arange(size)[part] // side
      for size, part, side in zip(self.shape, slices, self._block, strict=True)
    )
    offsets = self._offsets[np.ix_(rows, columns)]
    return np.where(pixels < 0, offsets - pixels, pixels)
