"""Segments images of any size in bounded memory.

Prediction runs in overlapping tiles and decoding in blocks; from the predicted
maps, labels are exactly those of decoding the whole image, seams included.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import itertools
import pathlib
import tempfile
from typing import Any

import numpy as np

from cellseg_jax.config import DecodingConfig, map_names, STRIDE
from cellseg_jax.inference import confidence as confidence_lib
from cellseg_jax.inference.blocks import (
  Array,
  Box,
  Each,
  in_turn,
  OneAtATime,
  Readable,
  Scratch,
)
from cellseg_jax.inference.confidence import Totals
from cellseg_jax.inference.decode import decode_blocks, DECODERS, Settings
from cellseg_jax.inference.predict import Model
from cellseg_jax.inference.predict_large import predict_large

# In pixels of the network's input. Its receptive field extends 360 pixels to
# every side, so no overlap of acceptable cost makes the maps equal to those of
# the whole image; but distant pixels have little weight. For a trained model
# with either head, the maps differed from those of the whole image by at most
# 0.03 and 0.04 (0.0001 and 0.0005 on average). An overlap of 128 pixels gave at
# most 0.03 and 0.11, one of 256 pixels at most 0.008 and 0.02.
OVERLAP = 192
# Most pixels along a side of a tile, and of a block to decode.
TILE = 2048
BLOCK = 1024


def segment_large(
  model: Model,
  image: Any,
  out: Any = None,
  *,
  tile: int = TILE,
  overlap: int = OVERLAP,
  block: int = BLOCK,
  scratch: str | pathlib.Path | None = None,
  progress: Callable[[float], None] = lambda share: None,
) -> tuple[Any, np.ndarray]:
  """Finds the cells of an image that need not fit in memory.

  The network processes overlapping tiles, all normalised with the intensity
  range of the whole image, and their maps are blended. Decoding the maps block
  by block gives the same labels and confidence as decoding them whole.

  Memory holds a tile or a few blocks, and a few numbers for every piece of a
  cell and every pixel along block borders: with the default sizes less than
  2 GB, most of it used by the network. Scratch takes up to 20 bytes per pixel
  on disk while the function runs.

  Args:
    model: The model, as `load_model` returns it.
    image: Raw intensities, (H, W), or (H, W, C) for a model of C channels: a
      NumPy, Zarr or Dask array, or any object with `shape` for which
      `image[y0:y1, x0:x1]` gives an array.
    out: Array to write the labels to, by `out[y0:y1, x0:x1] = block`: an
      integer array (H, W) in memory, in Zarr or memory-mapped. None creates an
      int32 array in memory.
    tile: Most pixels along a side of a tile of the network's input.
    overlap: Pixels of the network's input that neighbouring tiles share, a
      multiple of 32. A larger overlap brings the maps closer to those of the
      whole image and takes more time. Tiles are enlarged to at least twice the
      overlap.
    block: Side in pixels of the blocks in which maps are decoded and labels
      written; writing to chunked files is fastest if it is a multiple of the
      chunk size.
    scratch: Folder for temporary maps and labels; None is the system's
      temporary folder. It should be on disk: some systems keep their temporary
      folder in memory.
    progress: Called with the completed share of the prediction, 0 to 1.

  Returns:
    `out` with the labels, where 0 is background and 1 to n are the cells; and
    the confidence of cells 1 to n, float32 (n,), 0 to 1.

  Raises:
    ValueError: The image does not fit the model or holds NaN or infinity,
      `out` cannot hold the labels, or a size is invalid.
    OSError: There is no disk space for the scratch files.

  Examples:
    >>> import cellseg_jax
    >>> from skimage.io import imread
    >>> model = cellseg_jax.load_model('runs/cells')
    >>> image = imread('more_images/field5.tif')  # (H, W)
    >>> labels, confidence = cellseg_jax.segment_large(model, image)
    >>> labels.shape == image.shape
    True
    >>> int(labels.max()) == confidence.size
    True
  """
  check_image(image.shape, model.config.data.channels)
  if overlap <= 0 or overlap % STRIDE:
    raise ValueError(
      f'overlap must be a positive multiple of {STRIDE}, found {overlap}'
    )
  if min(tile, block) < 1:
    raise ValueError(
      f'tile and block must be at least 1, found {tile} and {block}'
    )
  shape = (image.shape[0], image.shape[1])
  if out is not None:
    _check_out(out, shape)
    out = OneAtATime(out)
  with scratch_images(shape, scratch) as new_image:
    out, confidence, _ = segment_large_maps(
      model,
      image,
      out,
      tile=tile,
      overlap=overlap,
      block=block,
      new_image=new_image,
      progress=progress,
    )
  return out.array if isinstance(out, OneAtATime) else out, confidence


def segment_large_maps(
  model: Model,
  image: Any,
  out: Any,
  *,
  tile: int = TILE,
  overlap: int = OVERLAP,
  block: int = BLOCK,
  new_image: Callable[[type], Array],
  progress: Callable[[float], None] = lambda share: None,
) -> tuple[Any, np.ndarray, dict[str, Array]]:
  """Finds the cells like `segment_large`, and also returns the maps.

  Args:
    model: The model, as `load_model` returns it.
    image: Raw intensities, (H, W) or (H, W, C), readable by slices.
    out: Integer array (H, W) to write the labels to, by slices; must allow
      several threads to write different blocks concurrently. None creates an
      int32 array in memory.
    tile: Most pixels along a side of a tile of the network's input.
    overlap: Pixels of the network's input that neighbouring tiles share.
    block: Side in pixels of the blocks in which maps are decoded and labels
      written.
    new_image: Creates an (H, W) array of zeros of the given type, as yielded
      by `scratch_images`.
    progress: Called with the completed share of the prediction, 0 to 1.

  Returns:
    `out` with the labels; the confidence of cells 1 to n, float32 (n,), 0 to 1;
    and the maps by name, float32 (H, W), which exist as long as the scratch.

  Raises:
    ValueError: The image does not fit the model or holds NaN or infinity, or
      `out` cannot hold the labels.
  """
  check_image(image.shape, model.config.data.channels)
  maps = {name: new_image(np.float32) for name in maps_read(model)}
  predict_large(
    model, image, maps, tile=tile, overlap=overlap, progress=progress
  )
  out, confidence = decode_large(
    maps,
    model.config.decoding,
    model.choices,
    out,
    block=block,
    new_image=new_image,
  )
  return out, confidence, maps


def maps_read(model: Model) -> list[str]:
  """Returns the names of the maps that the decoder and confidence read."""
  method = model.config.decoding.method
  wanted = {*DECODERS[method].maps, 'foreground', 'centre'}
  return [name for name in map_names(model.config.model) if name in wanted]


@contextlib.contextmanager
def scratch_images(
  shape: tuple[int, int], folder: str | pathlib.Path | None
) -> Iterator[Callable[[type], Scratch]]:
  """Yields a function that creates temporary images on disk.

  The images are deleted when the `with` block ends.

  Args:
    shape: Height and width of the images.
    folder: Folder to create them in; None is the system's temporary folder.
  """
  with tempfile.TemporaryDirectory(prefix='cellseg', dir=folder) as own:
    number = itertools.count()
    yield lambda kind: Scratch(
      pathlib.Path(own, f'{next(number)}'), shape, kind
    )


def decode_large(
  maps: Mapping[str, Readable],
  config: DecodingConfig,
  settings: Settings,
  out: Any,
  *,
  block: int,
  new_image: Callable[[type], Array],
  each: Each = in_turn,
) -> tuple[Any, np.ndarray]:
  """Finds the cells in maps that need not fit in memory.

  Args:
    maps: The maps by name, float (H, W), 0 to 1.
    config: Selects the decoder and its clean-up; the decoder settings in it are
      ignored in favour of `settings`.
    settings: Values of the decoder's settings by name.
    out: Integer array (H, W) to write the labels to, by slices; must allow
      different blocks to be written concurrently. None creates an int32 array
      in memory.
    block: Side of the blocks, in pixels.
    new_image: Creates an (H, W) work array of zeros of the given type.
    each: Processes the blocks and writes to the arrays.

  Returns:
    `out` with the labels, where 0 is background and 1 to n are the cells; and
    the confidence of cells 1 to n, float32 (n,), 0 to 1.

  Raises:
    ValueError: A map holds NaN, or `out` cannot hold the labels.
  """
  shape = maps['foreground'].shape
  if out is None:
    out = np.zeros(shape, np.int32)
  cells = decode_blocks(
    maps, config, settings, (block, block), lambda: new_image(np.int32), each
  )
  if cells.number > np.iinfo(out.dtype).max:
    raise ValueError(
      f'out is of type {out.dtype}, which cannot hold the {cells.number} cells '
      'that were found; give one of uint32'
    )
  read = [name for name in ('foreground', 'centre') if name in maps]

  def finish(box: Box) -> tuple[int, Totals]:
    labels = cells.grown(box)
    out[box.slices] = labels
    return _totals(labels, {name: maps[name][box.slices] for name in read})

  totals = Totals(*np.zeros((3, cells.number)))
  for first, part in each(finish, cells.boxes):
    there = slice(first, first + part.area.size)
    totals.area[there] += part.area
    totals.foreground[there] += part.foreground
    np.maximum(totals.centre[there], part.centre, out=totals.centre[there])
  return out, confidence_lib.from_totals(totals)


def _totals(
  labels: np.ndarray, maps: Mapping[str, np.ndarray]
) -> tuple[int, Totals]:
  """Returns the index, from 0, of a block's first cell, and the totals.

  Args:
    labels: Labels of the block, int32 (h, w).
    maps: `foreground` and optionally `centre`, float (h, w).

  Returns:
    The index of the first cell in the block; and the totals of that cell and
    the consecutive ones up to the last in the block.
  """
  if not labels.any():
    return 0, Totals(*np.zeros((3, 0)))
  # Cells of a block have similar numbers, so the range is short.
  first, last = int(labels[labels > 0].min()) - 1, int(labels.max())
  return first, confidence_lib.totals(
    np.maximum(labels - first, 0), maps, last - first
  )


def check_image(shape: tuple[int, ...], channels: int) -> None:
  """Checks that an image's shape fits a model.

  Args:
    shape: Shape of the image.
    channels: Number of channels that the model takes.

  Raises:
    ValueError: The shape does not fit, or the image has no pixels.
  """
  found = shape[2] if len(shape) == 3 else 1
  if len(shape) in (2, 3) and min(shape[:2]) > 0 and found == channels:
    return
  expected = '(H, W)' if channels == 1 else f'(H, W, {channels})'
  raise ValueError(
    f'this model takes images of shape {expected} with at least one pixel, '
    f'found {tuple(shape)}'
  )


def _check_out(out: Any, shape: tuple[int, int]) -> None:
  """Checks that `out` is an integer array of the image's height and width."""
  if tuple(out.shape) != shape or np.dtype(out.dtype).kind not in 'iu':
    raise ValueError(
      f'out must be an integer array of shape {shape}, found {out.dtype} '
      f'{tuple(out.shape)}'
    )
