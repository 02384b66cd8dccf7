"""Reading and writing of whole 2-D images and label images, for training.

Axes are explicit and never guessed. Files with more axes, and large ones, are
opened by `source` and `selection`.
"""

import pathlib

import imageio.v3 as iio
import numpy as np

from cellseg_jax.images.axes import readings, UNSTATED
from cellseg_jax.images.errors import ImageFileError, MAX_PIXELS
from cellseg_jax.images.label_files import write_labels
from cellseg_jax.images.source import (
  is_zarr,
  open_file,
  RASTER_SUFFIXES,
  Source,
  TIFF_SUFFIXES,
)

__all__ = [
  'SUFFIXES',
  'ImageFileError',
  'list_images',
  'read_image',
  'read_labels',
  'write_labels',
  'write_picture',
]

SUFFIXES = (*TIFF_SUFFIXES, *RASTER_SUFFIXES)
# Suffixes of bioio's formats that are looked for in folders; it reads more.
MICROSCOPY_SUFFIXES = ('.czi', '.lif', '.nd2')

# The last axis of an array without metadata is taken for channels if it is not
# longer than this.
_MOST_UNNAMED_CHANNELS = 4


def read_image(
  path: str | pathlib.Path, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
  """Reads one image without changing its intensities.

  Args:
    path: A TIFF, PNG or JPEG file of one 2-D image.
    max_pixels: Maximum number of values.

  Returns:
    The image, (H, W) or (H, W, C), in the dtype of the file. Channels come last
    wherever they are in the file.

  Raises:
    ImageFileError: The file is missing, cut off, of another kind, too large, or
      has a shape that can be read in several ways; the message names it and
      says what to do.
  """
  return _read(pathlib.Path(path), max_pixels, palette=False)


def read_labels(
  path: str | pathlib.Path, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
  """Reads one label image; palette files give indices, not colours.

  Args:
    path: A TIFF, PNG or JPEG file.
    max_pixels: Maximum number of values.

  Returns:
    The labels, (H, W), in the dtype of the file; their values are not checked
    (`cellseg_jax.images.labels` does that).

  Raises:
    ImageFileError: The file cannot be read as one 2-D image (see `read_image`),
      or the image has channels.
  """
  path = pathlib.Path(path)
  labels = _read(path, max_pixels, palette=True)
  if labels.ndim != 2:
    raise ImageFileError(
      f'{path}: a label image must be of shape (height, width), found '
      f'{labels.shape}; save one integer a pixel, not colours'
    )
  return labels


def write_picture(path: str | pathlib.Path, picture: np.ndarray) -> None:
  """Writes a picture for display, uint8 (H, W) or (H, W, 3), as PNG."""
  iio.imwrite(path, picture)


def list_images(
  folder: str | pathlib.Path, *, every_kind: bool = False
) -> list[pathlib.Path]:
  """Returns the TIFF, PNG and JPEG files in a folder, sorted, no hidden ones.

  Args:
    folder: The folder; its subfolders are not searched.
    every_kind: Also return OME-Zarr folders and files in microscope formats.

  Raises:
    ImageFileError: There is no such folder.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise ImageFileError(f'{folder}: no such folder')
  suffixes = SUFFIXES + MICROSCOPY_SUFFIXES * every_kind
  return sorted(
    path
    for path in folder.iterdir()
    if not path.name.startswith('.')
    and (
      (path.suffix.lower() in suffixes and path.is_file())
      or (every_kind and is_zarr(path))
    )
  )


def _read(path: pathlib.Path, max_pixels: int, *, palette: bool) -> np.ndarray:
  suffix = path.suffix.lower()
  if suffix not in SUFFIXES:
    raise ImageFileError(
      f'{path}: cannot read {suffix or "a file without suffix"}; save it as '
      f'one of {", ".join(SUFFIXES)}'
    )
  with open_file(path, palette=palette, max_pixels=max_pixels) as opened:
    axes = _axes_of_one_image(path, opened.array.shape, opened.axes)
    pixels = Source(path, opened, axes, max_pixels).read()
  return pixels if axes == 'YX' else pixels.transpose(_channels_last(axes))


def _axes_of_one_image(
  path: pathlib.Path, shape: tuple[int, ...], axes: str
) -> str:
  """Returns the file's axes: Y, X and at most C or S; refuses to guess."""
  if sorted(axes) in (['X', 'Y'], ['C', 'X', 'Y'], ['S', 'X', 'Y']):
    return axes
  if axes == UNSTATED * 3 and shape[2] <= _MOST_UNNAMED_CHANNELS < min(
    shape[:2]
  ):
    return 'YXC'
  stated = 'without stated axes' if UNSTATED in axes else f'with axes {axes}'
  ways = ', or '.join(text for text, _ in readings(shape, axes))
  raise ImageFileError(
    f'{path}: shape {shape} {stated} is not one 2-D image; it may be {ways}. '
    'Save one image (height, width) or (height, width, channels) a file'
  )


def _channels_last(axes: str) -> list[int]:
  y, x = axes.index('Y'), axes.index('X')
  return [y, x, 3 - y - x]
