"""Images of any size in bounded memory, with labels exact at every seam."""

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

# Pixels of the network's input. Its receptive field reaches 360 pixels to every
# side, so that no overlap worth its time makes maps equal to the whole's; but
# what is far has little weight. On a trained model with either head the maps
# differed from the whole's by at most 0.03 and 0.04 (0.0001 and 0.0005 on
# average); 128 pixels gave 0.03 and 0.11, 256 pixels 0.008 and 0.02.
OVERLAP = 192
# Most pixels along a side of a tile, and of a block that is decoded.
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

  The network looks at overlapping tiles, normalised as one image, whose maps
  are blended; from the maps the cells are those that decoding the whole would
  find, numbers and confidence included.

  In memory are a tile or a few blocks, and some numbers for every piece of a
  cell and every pixel along the blocks' borders; with the default sizes less
  than 2 GB, most of it the network's. On disk, while it runs, are up to 20
  bytes a pixel.

  Args:
    model: As `load_model` returns.
    image: Raw intensities, (H, W), or (H, W, C) for a model of C channels: a
      NumPy, Zarr or Dask array, or anything else with `shape` of which
      `image[y0:y1, x0:x1]` is an array.
    out: Where to write the labels, by `out[y0:y1, x0:x1] = block`: an integer
      array (H, W) in memory, of Zarr or mapped from a file. None makes a new
      one in memory, int32.
    tile: Most pixels along a side of the network's input at once.
    overlap: Pixels of the network's input that neighbouring tiles share: a
      multiple of 32. More makes the maps in between more alike to those that
      the whole would have, and costs time; tiles are at least twice as large.
    block: Side of the blocks that maps are decoded and labels written in;
      compressed files are written fastest if it is a multiple of their chunks.
    scratch: Folder to keep maps and labels in meanwhile; None is the system's
      folder for temporary files. It should be on a disk: some systems keep
      theirs in memory.
    progress: Called with the share of the prediction that is done, 0 to 1.

  Returns:
    `out` with the labels, 1 to n and 0 for background; and the confidence of
    cell 1 to n, float32 (n,), 0 to 1.

  Raises:
    ValueError: The image does not fit the model or holds NaN or infinity,
      `out` cannot hold the labels, or a size is impossible.
    OSError: There is no room for the scratch.

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
  """Finds the cells as `segment_large`, and returns what they were found in.

  Args:
    model: As for `segment_large`, as all that follow but the next.
    image: See there.
    out: See there; blocks may be written at the same time.
    tile: See there.
    overlap: See there.
    block: See there.
    new_image: As `scratch_images` gives it.
    progress: See there.

  Returns:
    As `segment_large`, and the maps by name, which last as long as the scratch.

  Raises:
    ValueError: As `segment_large`.
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
  """Names the maps that the decoder and the confidence read."""
  method = model.config.decoding.method
  wanted = {*DECODERS[method].maps, 'foreground', 'centre'}
  return [name for name in map_names(model.config.model) if name in wanted]


@contextlib.contextmanager
def scratch_images(
  shape: tuple[int, int], folder: str | pathlib.Path | None
) -> Iterator[Callable[[type], Scratch]]:
  """Gives a function that makes images on disk, which are deleted at the end.

  Args:
    shape: Height and width.
    folder: Where to put them; None is the system's temporary folder.
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
    maps: By name, float (H, W), 0 to 1.
    config: As for `decode.decode`.
    settings: As for `decode.decode`.
    out: As for `segment_large`; blocks may be written at the same time.
    block: As for `segment_large`.
    new_image: Makes an (H, W) array of zeros of a type to work in.
    each: Looks at the blocks, and writes to those arrays.

  Returns:
    As `segment_large`.

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
  """Returns the totals of a block's cells, and the first's number, from 0."""
  if not labels.any():
    return 0, Totals(*np.zeros((3, 0)))
  # Cells of a block have numbers not far apart.
  first, last = int(labels[labels > 0].min()) - 1, int(labels.max())
  return first, confidence_lib.totals(
    np.maximum(labels - first, 0), maps, last - first
  )


def check_image(shape: tuple[int, ...], channels: int) -> None:
  """Refuses images that a model of so many channels cannot take.

  Args:
    shape: Of the image.
    channels: Of the model.

  Raises:
    ValueError: They do not fit.
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
  """Refuses what the labels of an image cannot be written to."""
  if tuple(out.shape) != shape or np.dtype(out.dtype).kind not in 'iu':
    raise ValueError(
      f'out must be an integer array of shape {shape}, found {out.dtype} '
      f'{tuple(out.shape)}'
    )
