"""Image files of all formats, opened without reading their pixels.

The entry point for reading large files and files with more than two axes;
formats have modules of their own, such as `tiff` and `zarr_files`.
"""

from collections.abc import Iterator
import contextlib
import math
import operator
import pathlib
import threading
from typing import Any

import numpy as np

from cellseg_jax.images.axes import resolve_axes
from cellseg_jax.images.errors import (
  check_share,
  check_size,
  ImageFileError,
  MAX_PIXELS,
  reading,
)
from cellseg_jax.images.kept import keep
from cellseg_jax.images.opened import Opened
from cellseg_jax.images.raster import open_raster
from cellseg_jax.images.tiff import open_tiff

TIFF_SUFFIXES = ('.tif', '.tiff')
RASTER_SUFFIXES = ('.png', '.jpg', '.jpeg')

_ZARR_MARKS = ('zarr.json', '.zgroup', '.zarray')


class Source:
  """An image file whose pixels are read when it is indexed.

  Several threads may index it; they are served one after another.

  Attributes:
    path: The file.
    shape: Shape of the whole array.
    axes: One letter per axis: T, C, Z, Y, X, and S for RGB samples.
    dtype: Type of the pixels, in this machine's byte order.
    pixel_size: Height and width of a pixel in um; None if unknown.
    channel_names: Names of the channels; empty if unknown.
    max_pixels: Maximum number of values in memory at once.
  """

  def __init__(
    self,
    path: pathlib.Path,
    opened: Opened,
    axes: str,
    max_pixels: int = MAX_PIXELS,
  ):
    self.path, self.axes, self.max_pixels = path, axes, max_pixels
    self.shape = tuple(opened.array.shape)
    self.dtype = opened.array.dtype.newbyteorder('=')
    self.pixel_size = opened.pixel_size
    names = tuple(opened.channel_names)
    self.channel_names = names if len(names) == self.size('C') else ()
    self._array = keep(opened.array, axes.index('Y'), axes.index('X'))
    self._lock = threading.Lock()

  def size(self, axis: str) -> int:
    """Returns the length of an axis, by its letter; 1 if there is none."""
    return self.shape[self.axes.index(axis)] if axis in self.axes else 1

  def __getitem__(self, index: Any) -> np.ndarray:
    """Reads a block.

    Args:
      index: Integers and slices with positive steps, as for a NumPy array.

    Returns:
      The pixels as they are in the file.

    Raises:
      ImageFileError: The pixels cannot be read.
    """
    full = _full_index(index, self.shape)
    with self._lock, reading(self.path):
      return np.asarray(self._array[full], self.dtype)

  def read(self) -> np.ndarray:
    """Reads the whole array.

    Raises:
      ImageFileError: It cannot be read, or has more than `max_pixels` values.
    """
    check_size(self.path, self.shape, math.prod(self.shape), self.max_pixels)
    return self[...]


@contextlib.contextmanager
def open_image(
  path: str | pathlib.Path,
  axes: str | None = None,
  *,
  scene: str = '',
  max_pixels: int = MAX_PIXELS,
) -> Iterator[Source]:
  """Opens an image file without reading its pixels.

  Args:
    path: A TIFF, PNG or JPEG file, an OME-Zarr folder, or a file in any format
      that bioio reads, if it is installed.
    axes: Axes of the array, such as 'TCZYX', which override the metadata; None
      takes those of the metadata.
    scene: Name or index of the image in a file of several; '' for files of one.
    max_pixels: Maximum number of values in memory at once.

  Yields:
    The image; closed when the block ends.

  Raises:
    ImageFileError: The file is missing, empty, cut off, of an unknown format,
      has no pixels or too many, or does not state its axes.
    ValueError: `axes` cannot be the axes of an image.
  """
  path = pathlib.Path(path)
  with open_file(path, scene=scene, max_pixels=max_pixels) as opened:
    letters = resolve_axes(path, opened.array.shape, opened.axes, axes)
    yield Source(path, opened, letters, max_pixels)


@contextlib.contextmanager
def open_file(
  path: pathlib.Path,
  *,
  scene: str = '',
  palette: bool = False,
  max_pixels: int = MAX_PIXELS,
) -> Iterator[Opened]:
  """Opens a file without resolving its axes.

  Args:
    path: The file, or an OME-Zarr folder.
    scene: Name or index of the image in a file of several; '' for files of one.
    palette: Whether to read the indices of a palette PNG, not its colours.
    max_pixels: Maximum number of values in memory at once.

  Yields:
    The array of the file and its metadata; closed when the block ends.

  Raises:
    ImageFileError: The file is missing, empty, cut off, of an unknown format,
      or has no pixels or too many.
  """
  check_exists(path)
  with contextlib.ExitStack() as stack:
    with reading(path):
      opened = _open(path, stack, scene, palette)
      _check(path, opened, max_pixels)
    yield opened


def _check(path: pathlib.Path, opened: Opened, max_pixels: int) -> None:
  """Refuses pixels that are not numbers, and images that are too large."""
  array = opened.array
  if array.dtype.kind not in 'buifc':
    raise ImageFileError(
      f'{path}: pixels are of type {array.dtype}; save them as integers or '
      'floats'
    )
  check_size(path, array.shape, math.prod(array.chunks), max_pixels)
  check_share(
    path, array.shape, array.dtype.itemsize, opened.stored, max_pixels
  )


def check_exists(path: pathlib.Path) -> None:
  """Refuses a path that is not a file with content or a Zarr folder.

  Raises:
    ImageFileError: There is no such file, it is empty, or it is a folder other
      than a Zarr one.
  """
  if path.is_dir():
    if not is_zarr(path):
      raise ImageFileError(
        f'{path}: is a folder, and not one of OME-Zarr (it has none of '
        f'{", ".join(_ZARR_MARKS)}); give an image'
      )
  elif not path.is_file():
    raise ImageFileError(f'{path}: no such file')
  elif not path.stat().st_size:
    raise ImageFileError(f'{path}: the file is empty; save or copy it again')


def is_zarr(path: pathlib.Path) -> bool:
  """Returns whether a path is a Zarr folder, which counts as one image."""
  return any((path / mark).is_file() for mark in _ZARR_MARKS)


def _open(
  path: pathlib.Path, stack: contextlib.ExitStack, scene: str, palette: bool
) -> Opened:
  suffix = path.suffix.lower()
  if suffix in TIFF_SUFFIXES:
    return open_tiff(path, stack, scene)
  if suffix in RASTER_SUFFIXES:
    return open_raster(path, palette=palette)
  # Imported late: both are slow to import, and most files need neither.
  if path.is_dir():
    from cellseg_jax.images.zarr_files import open_zarr

    return open_zarr(path, scene)
  from cellseg_jax.images.microscopy import open_microscopy

  return open_microscopy(path, scene)


def _full_index(index: Any, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
  """Returns a non-negative integer or an explicit slice for every axis."""
  parts = list(index) if isinstance(index, tuple) else [index]
  if not any(part is ... for part in parts):
    parts.append(...)
  place = next(i for i, part in enumerate(parts) if part is ...)
  missing = len(shape) - len(parts) + 1
  parts[place : place + 1] = [slice(None)] * missing
  full: list[int | slice] = []
  for part, size in zip(parts, shape, strict=True):
    if isinstance(part, slice):
      full.append(slice(*part.indices(size)))
    else:
      full.append(range(size)[operator.index(part)])
  return tuple(full)
