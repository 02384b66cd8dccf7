"""Image files of any kind, opened without reading their pixels."""

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
  """An image file whose pixels are read where it is indexed.

  Several threads may index it: they are served one after another.

  Attributes:
    path: The file.
    shape: Of the whole.
    axes: A letter an axis: of T, C, Z, Y, X, and S for the samples of RGB.
    dtype: In this machine's byte order.
    pixel_size: Height and width of a pixel in um, or None if not known.
    channel_names: As many as channels, or none if not known.
    max_pixels: Values that may be held at once.
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
    """The length along the axis of a letter; 1 where there is none."""
    return self.shape[self.axes.index(axis)] if axis in self.axes else 1

  def __getitem__(self, index: Any) -> np.ndarray:
    """Reads a block.

    Args:
      index: Integers and slices of positive steps, as for a NumPy array.

    Returns:
      The pixels as they are in the file.

    Raises:
      ImageFileError: They cannot be read.
    """
    full = _full_index(index, self.shape)
    with self._lock, reading(self.path):
      return np.asarray(self._array[full], self.dtype)

  def read(self) -> np.ndarray:
    """Reads the whole.

    Raises:
      ImageFileError: It cannot be read, or is larger than allowed.
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
    path: A TIFF, PNG or JPEG file, a folder of OME-Zarr, or a file of any
      format that bioio reads, where it is installed.
    axes: The axes of its array, such as 'TCZYX'; they hold against the file's
      metadata. None takes those of the metadata.
    scene: Name or index of the image meant, in a file of several.
    max_pixels: Values that may be held in memory at once.

  Yields:
    The image; closed afterwards.

  Raises:
    ImageFileError: The file is missing, empty, cut off, of an unknown kind, of
      no pixels or too many, or what its axes are is not stated.
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
  """Opens a file as `open_image`, whatever its axes.

  Args:
    path: The file, or folder of OME-Zarr.
    scene: As for `open_image`.
    palette: Of a palette PNG the indices, not the colours.
    max_pixels: As for `open_image`.

  Yields:
    The file's array and what its metadata say; closed afterwards.

  Raises:
    ImageFileError: As `open_image`, but for the axes.
  """
  check_exists(path)
  with contextlib.ExitStack() as stack:
    with reading(path):
      opened = _open(path, stack, scene, palette)
      _check(path, opened, max_pixels)
    yield opened


def _check(path: pathlib.Path, opened: Opened, max_pixels: int) -> None:
  """Refuses what is no image, or claims to be too large a one."""
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
  """Refuses a path at which there is nothing to read.

  Raises:
    ImageFileError: There is no such file, an empty one, or a plain folder.
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
  """Whether a path is a folder of Zarr, which is one image."""
  return any((path / mark).is_file() for mark in _ZARR_MARKS)


def _open(
  path: pathlib.Path, stack: contextlib.ExitStack, scene: str, palette: bool
) -> Opened:
  suffix = path.suffix.lower()
  if suffix in TIFF_SUFFIXES:
    return open_tiff(path, stack, scene)
  if suffix in RASTER_SUFFIXES:
    return open_raster(path, palette=palette)
  # Late: neither is quick to import, and most files need neither.
  if path.is_dir():
    from cellseg_jax.images.zarr_files import open_zarr

    return open_zarr(path, scene)
  from cellseg_jax.images.microscopy import open_microscopy

  return open_microscopy(path, scene)


def _full_index(index: Any, shape: tuple[int, ...]) -> tuple[int | slice, ...]:
  """An integer or a slice for every axis, all from 0 and within the shape."""
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
