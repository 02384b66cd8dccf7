"""Label images to files: TIFF and OME-Zarr, block by block."""

from collections.abc import Iterator, Sequence
import itertools
import math
import os
import pathlib
from typing import Any, Protocol
import uuid

import numpy as np
import tifffile

from cellseg_jax.atomic import replacing

# Height and width of tiles and chunks, and of the blocks that are read.
BLOCK = 1024

# Images of more pixels are tiled.
_LARGEST_UNTILED = 2**24
# Files of more bytes must be BigTIFF; as if compression saved nothing.
_LARGEST_TIFF = 2**32 - 2**25
# Bytes that wait to be compressed at once.
_BUFFER = 2**24
_CM_IN_UM = 1e4


class Labels(Protocol):
  """Integers that are read by blocks: an array of NumPy, Zarr or Dask."""

  @property
  def shape(self) -> tuple[int, ...]: ...

  @property
  def dtype(self) -> np.dtype: ...

  def __getitem__(self, index: Any) -> Any: ...


def write_labels(
  path: str | pathlib.Path,
  labels: Labels,
  *,
  axes: str = 'YX',
  pixel_size: tuple[float, float] | None = None,
) -> None:
  """Writes label images as zlib-compressed OME-TIFF, whole or not at all.

  Large ones are written as tiles, in memory that does not grow with them.

  Args:
    path: File to write; its folder must exist. An older file is replaced.
    labels: Integers from 0 to 2**32 - 1; written as uint16, or as uint32 when
      a value needs it. Read by blocks, in order, up to two times.
    axes: Of the labels: T, Z or both before YX, where there are several.
    pixel_size: Height and width of a pixel in um, if known.

  Raises:
    ValueError: The labels are not such integers.
  """
  path = pathlib.Path(path)
  dtype = _smallest_type(path, labels, axes)
  options: dict[str, Any] = {}
  metadata: dict[str, Any] = {'axes': axes}
  # tifffile's own is a new one each time; equal labels make equal files.
  metadata['UUID'] = str(uuid.uuid5(uuid.NAMESPACE_URL, path.name))
  if pixel_size is not None:
    for axis, size in zip('YX', pixel_size, strict=True):
      metadata[f'PhysicalSize{axis}'] = size
      metadata[f'PhysicalSize{axis}Unit'] = 'µm'
    # For readers that do not know OME's metadata.
    height, width = pixel_size
    options['resolution'] = (_CM_IN_UM / width, _CM_IN_UM / height)
    options['resolutionunit'] = 'CENTIMETER'
  if math.prod(labels.shape[-2:]) > _LARGEST_UNTILED:
    options['tile'] = (BLOCK, BLOCK)
    blocks = _blocks(labels.shape, BLOCK, BLOCK)
  else:
    blocks = _blocks(labels.shape, *labels.shape[-2:])
  nbytes = math.prod(labels.shape) * dtype.itemsize
  with replacing(path) as hidden:
    tifffile.imwrite(
      hidden,
      (np.asarray(labels[block]).astype(dtype) for block in blocks),
      shape=labels.shape,
      dtype=dtype,
      bigtiff=nbytes > _LARGEST_TIFF,
      compression='zlib',
      maxworkers=os.cpu_count(),
      buffersize=_BUFFER,
      metadata=metadata,
      ome=True,
      photometric='minisblack',
      **options,
    )


def write_zarr_labels(
  path: str | pathlib.Path,
  labels: Labels,
  *,
  axes: str = 'YX',
  pixel_size: tuple[float, float] | None = None,
  version: str = '0.5',
) -> None:
  """Writes label images as OME-Zarr, block by block, whole or not at all.

  Args:
    path: Folder to write, `NAME.zarr`; its parent must exist. An older one is
      replaced.
    labels: As for `write_labels`.
    axes: As for `write_labels`.
    pixel_size: As for `write_labels`.
    version: Of OME-Zarr, 0.4 or 0.5.

  Raises:
    ValueError: The labels are not such integers.
  """
  # Late: it takes long to import, and most runs write TIFF.
  from cellseg_jax.images.zarr_files import create_zarr_labels

  path = pathlib.Path(path)
  dtype = _smallest_type(path, labels, axes)
  chunks = (*(1 for _ in labels.shape[:-2]), BLOCK, BLOCK)
  with replacing(path) as hidden:
    array = create_zarr_labels(
      hidden, labels.shape, chunks, dtype, axes, pixel_size, version
    )
    for block in _blocks(labels.shape, BLOCK, BLOCK):
      array[block] = np.asarray(labels[block]).astype(dtype)


# How label images can be written, and the suffix of each.
FORMATS = {'tif': '.tif', 'zarr': '.zarr'}


def write_label_file(
  path: str | pathlib.Path,
  labels: Labels,
  *,
  axes: str = 'YX',
  pixel_size: tuple[float, float] | None = None,
) -> None:
  """Writes label images in the format that the suffix of `path` says.

  Args:
    path: One of the suffixes of `FORMATS`.
    labels: As for `write_labels`, as the others.
    axes: See there.
    pixel_size: See there.

  Raises:
    ValueError: As `write_labels`.
  """
  zarr = pathlib.Path(path).suffix == FORMATS['zarr']
  write = write_zarr_labels if zarr else write_labels
  write(path, labels, axes=axes, pixel_size=pixel_size)


def _smallest_type(path: pathlib.Path, labels: Labels, axes: str) -> np.dtype:
  """uint16, or uint32 if a label needs it; checks the labels."""
  kind = np.dtype(labels.dtype)
  if len(labels.shape) != len(axes) or kind.kind not in 'ui':
    raise ValueError(
      f'{path}: labels must be integers of shape (height, width)'
      f'{f" with axes {axes}" if axes != "YX" else ""}, found {kind} '
      f'{tuple(labels.shape)}'
    )
  if axes not in ('YX', 'TYX', 'ZYX', 'TZYX'):
    raise ValueError(
      f'{path}: axes of labels must be YX, TYX, ZYX or TZYX, found {axes}'
    )
  if not math.prod(labels.shape):
    raise ValueError(f'{path}: labels must have pixels, found none')
  if kind.kind == 'u' and kind.itemsize <= 2:
    return np.dtype(np.uint16)
  low = high = 0
  for index in _blocks(labels.shape, BLOCK, BLOCK):
    block = np.asarray(labels[index])
    low, high = min(low, int(block.min())), max(high, int(block.max()))
  if low < 0 or high >= 2**32:
    raise ValueError(
      f'{path}: labels must be 0 to 2**32 - 1, found {low} to {high}'
    )
  return np.dtype(np.uint16 if high < 2**16 else np.uint32)


def _blocks(
  shape: Sequence[int], height: int, width: int
) -> Iterator[tuple[int | slice, ...]]:
  """Indices of all blocks: frame by frame, row by row."""
  leading = (range(size) for size in shape[:-2])
  rows = [slice(y, y + height) for y in range(0, shape[-2], height)]
  columns = [slice(x, x + width) for x in range(0, shape[-1], width)]
  return itertools.product(*leading, rows, columns)
