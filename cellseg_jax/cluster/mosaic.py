"""Images that many workers write concurrently, with one file per block.

Workers writing to a shared file would conflict where tiles overlap, and what a
worker had added before it died could not be told. A separate file per block is
either complete or absent, and writing it again gives the same result.
"""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.atomic import replacing
from cellseg_jax.inference.blocks import Box


class Mosaic:
  """An image stored as block files, summed where they overlap when read.

  Attributes:
    shape: Height and width.
    dtype: Type of the pixels.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    places: np.ndarray,
    shape: tuple[int, int],
    dtype: np.dtype,
    plane: int = 0,
  ) -> None:
    """Views the files of an existing folder as an image; see `new`.

    Args:
      folder: Where the files are.
      places: Top, bottom, left and right of each file, int64 (n, 4).
      shape: Height and width.
      dtype: Type of the pixels.
      plane: Which of the images stored in each file to read.
    """
    self.shape, self.dtype = shape, dtype
    self._folder, self._places, self._plane = folder, places, plane

  @classmethod
  def new(
    cls,
    folder: pathlib.Path,
    places: Sequence[Box],
    shape: tuple[int, int],
    dtype: Any,
  ) -> 'Mosaic':
    """Creates a folder for an image.

    Args:
      folder: The folder to create; must not exist yet.
      places: The box of each file in the image. A file must be written before
        any region that it overlaps is read.
      shape: Height and width.
      dtype: Type of the pixels.
    """
    folder.mkdir()
    boxes = np.array(places, np.int64).reshape(-1, 4)
    return cls(folder, boxes, shape, np.dtype(dtype))

  def plane(self, number: int) -> 'Mosaic':
    """Returns a view of one of the images that each file holds."""
    return Mosaic(self._folder, self._places, self.shape, self.dtype, number)

  def keep(self, number: int, planes: np.ndarray) -> None:
    """Writes the file of one block.

    Args:
      number: Index of the block in `places`.
      planes: The block's contribution to each of the N images, (N, h, w).
    """
    with replacing(self._path(number)) as partial:
      np.save(partial, np.ascontiguousarray(planes, self.dtype))

  def __setitem__(self, slices: tuple[slice, slice], block: np.ndarray) -> None:
    """Writes a block, whose slices must be exactly one of the places."""
    rows, columns = slices
    place = (rows.start, rows.stop, columns.start, columns.stop)
    (number,) = np.flatnonzero((self._places == place).all(1)).tolist()
    self.keep(number, block[None])

  def __getitem__(self, slices: tuple[slice, slice]) -> np.ndarray:
    rows, columns = (
      range(size)[part] for size, part in zip(self.shape, slices, strict=True)
    )
    total = np.zeros((len(rows), len(columns)), self.dtype)
    top, bottom, left, right = self._places.T
    near = (top < rows.stop) & (bottom > rows.start)
    near &= (left < columns.stop) & (right > columns.start)
    # In a fixed order, because the rounding of float sums depends on it.
    for number in np.flatnonzero(near).tolist():
      place = Box(*self._places[number].tolist())
      shared = Box(
        max(place.top, rows.start),
        min(place.bottom, rows.stop),
        max(place.left, columns.start),
        min(place.right, columns.stop),
      )
      # Memory-mapped, so that only the shared part is read.
      planes = np.load(self._path(number), mmap_mode='r', allow_pickle=False)
      total[_within(shared, rows.start, columns.start)] += planes[self._plane][
        _within(shared, place.top, place.left)
      ]
    return total

  def _path(self, number: int) -> pathlib.Path:
    return self._folder / f'{number}.npy'


def _within(box: Box, top: int, left: int) -> tuple[slice, slice]:
  """Returns the slices of a box within a block that starts at (top, left)."""
  return (
    slice(box.top - top, box.bottom - top),
    slice(box.left - left, box.right - left),
  )
