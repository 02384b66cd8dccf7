"""Images that many workers write at the same time: a file for every block.

Workers that wrote to one file where tiles overlap would be in each other's way,
and what one that died had added could not be told. A file of its own is there
whole or not at all, and done again it is the same.
"""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.atomic import replacing
from cellseg_jax.inference.blocks import Box


class Mosaic:
  """An image in files, added up where they overlap when it is read.

  Attributes:
    shape: Height and width.
    dtype: Of its pixels.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    places: np.ndarray,
    shape: tuple[int, int],
    dtype: np.dtype,
    plane: int = 0,
  ) -> None:
    """Sees the files of a folder as an image; see `new`."""
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
    """Makes a folder for an image.

    Args:
      folder: To be made.
      places: Where in the image each file lies. What is read of it must have
        been written before.
      shape: Height and width.
      dtype: Of the pixels.
    """
    folder.mkdir()
    boxes = np.array(places, np.int64).reshape(-1, 4)
    return cls(folder, boxes, shape, np.dtype(dtype))

  def plane(self, number: int) -> 'Mosaic':
    """Returns one image, of files that hold several."""
    return Mosaic(self._folder, self._places, self.shape, self.dtype, number)

  def keep(self, number: int, planes: np.ndarray) -> None:
    """Writes a file.

    Args:
      number: Which of the places it belongs to.
      planes: What it adds to each of the images, (N, h, w).
    """
    with replacing(self._path(number)) as partial:
      np.save(partial, np.ascontiguousarray(planes, self.dtype))

  def __setitem__(self, slices: tuple[slice, slice], block: np.ndarray) -> None:
    """Writes a block that is one of the places."""
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
    # In order, as sums depend on it.
    for number in np.flatnonzero(near).tolist():
      place = Box(*self._places[number].tolist())
      shared = Box(
        max(place.top, rows.start),
        min(place.bottom, rows.stop),
        max(place.left, columns.start),
        min(place.right, columns.stop),
      )
      # Mapped, so that only what is needed is read.
      planes = np.load(self._path(number), mmap_mode='r', allow_pickle=False)
      total[_within(shared, rows.start, columns.start)] += planes[self._plane][
        _within(shared, place.top, place.left)
      ]
    return total

  def _path(self, number: int) -> pathlib.Path:
    return self._folder / f'{number}.npy'


def _within(box: Box, top: int, left: int) -> tuple[slice, slice]:
  """Returns where a box lies in a block that begins at a row and a column."""
  return (
    slice(box.top - top, box.bottom - top),
    slice(box.left - left, box.right - left),
  )
