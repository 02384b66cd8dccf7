"""Writing of label images as OME-TIFF and OME-Zarr, block by block.

The labels need not be in memory: large results of segmentation are written as
they are computed.
"""

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

# Images with more pixels are tiled.
_LARGEST_UNTILED = 2**24
# Images of more bytes, before compression, are written as BigTIFF.
_LARGEST_TIFF = 2**32 - 2**25
# Bytes that are buffered for compression.
_BUFFER = 2**24
_CM_IN_UM = 1e4


class Labels(Protocol):
  """Integer labels that are read by blocks: a NumPy, Zarr or Dask array."""

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
  """Writes label images as zlib-compressed OME-TIFF, atomically.

  Large images are written as tiles, in memory that does not grow with them.

  Args:
    path: File to write; its folder must exist. An existing file is replaced.
    labels: Integers from 0 to 2**32 - 1; written as uint16, or as uint32 if a
      value needs it. Read by blocks, in order, up to two times.
    axes: Axes of the labels: 'YX', preceded by T, Z or both for a stack.
    pixel_size: Height and width of a pixel in um; None if unknown.

  Raises:
    ValueError: The labels are not integers in that range, or do not fit `axes`.
  """
  path = pathlib.Path(path)
  dtype = _smallest_type(path, labels, axes)
  options: dict[str, Any] = {}
  metadata: dict[str, Any] = {'axes': axes}
  # tifffile's own UUID is random; with this one, equal labels make equal files.
  metadata['UUID'] = str(uuid.uuid5(uuid.NAMESPACE_URL, path.name))
  if pixel_size is not None:
    for axis, size in zip('YX', pixel_size, strict=True):
      metadata[f'PhysicalSize{axis}'] = size
      metadata[f'PhysicalSize{axis}Unit'] = 'µm'
    # For readers that do not know OME metadata.
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
  """Writes label images as OME-Zarr, block by block, atomically.

  Args:
    path: Folder to write, `NAME.zarr`; its parent must exist. An existing
      folder is replaced.
    labels: Integers from 0 to 2**32 - 1; written as uint16, or as uint32 if a
      value needs it. Read by blocks, in order, up to two times.
    axes: Axes of the labels: 'YX', preceded by T, Z or both for a stack.
    pixel_size: Height and width of a pixel in um; None if unknown.
    version: Version of OME-Zarr, '0.4' or '0.5'.

  Raises:
    ValueError: The labels are not integers in that range, or do not fit `axes`.
  """
  # Imported late: it is slow to import, and most runs write TIFF.
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


# The formats of label images, and their suffixes.
FORMATS = {'tif': '.tif', 'zarr': '.zarr'}


def write_label_file(
  path: str | pathlib.Path,
  labels: Labels,
  *,
  axes: str = 'YX',
  pixel_size: tuple[float, float] | None = None,
) -> None:
  """Writes label images as OME-Zarr or OME-TIFF, by the suffix of `path`.

  Args:
    path: File or folder to write; '.zarr' gives OME-Zarr, any other suffix
      OME-TIFF.
    labels: Integers from 0 to 2**32 - 1; written as uint16, or as uint32 if a
      value needs it. Read by blocks, in order, up to two times.
    axes: Axes of the labels: 'YX', preceded by T, Z or both for a stack.
    pixel_size: Height and width of a pixel in um; None if unknown.

  Raises:
    ValueError: The labels are not integers in that range, or do not fit `axes`.
  """
  zarr = pathlib.Path(path).suffix == FORMATS['zarr']
  write = write_zarr_labels if zarr else write_labels
  write(path, labels, axes=axes, pixel_size=pixel_size)


def _smallest_type(path: pathlib.Path, labels: Labels, axes: str) -> np.dtype:
  """Checks the labels; returns uint16, or uint32 if a label needs it."""
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
  """Yields the indices of all blocks: frame by frame, row by row."""
  leading = (range(size) for size in shape[:-2])
  rows = [slice(y, y + height) for y in range(0, shape[-2], height)]
  columns = [slice(x, x + width) for x in range(0, shape[-1], width)]
  return itertools.product(*leading, rows, columns)
