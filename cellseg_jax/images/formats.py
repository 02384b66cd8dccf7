"""Read and write images and label images; axes are explicit, never guessed.

Whole 2-D images and their labels, as training takes them; `source` and
`selection` open files of more axes, and of any size.
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
# Of the many that bioio reads, those that are looked for in folders.
MICROSCOPY_SUFFIXES = ('.czi', '.lif', '.nd2')

# The last axis of an array without metadata is taken for channels up to here.
_MOST_UNNAMED_CHANNELS = 4


def read_image(
  path: str | pathlib.Path, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
  """Reads one image with its intensities as they are.

  Args:
    path: A TIFF, PNG or JPEG file of one 2-D image.
    max_pixels: Values that it may have.

  Returns:
    The image, (H, W) or (H, W, C), in the file's own dtype. Channels come last
    wherever the TIFF's metadata place them.

  Raises:
    ImageFileError: The file is missing, cut off, of another kind, too large, or
      of a shape with several readings; the message names it and says what to
      do.
  """
  return _read(pathlib.Path(path), max_pixels, palette=False)


def read_labels(
  path: str | pathlib.Path, *, max_pixels: int = MAX_PIXELS
) -> np.ndarray:
  """Reads one label image; of a palette file the indices, not the colours.

  Args:
    path: A TIFF or PNG file.
    max_pixels: Values that it may have.

  Returns:
    The labels, (H, W), in the file's own dtype; values are not checked
    (`cellseg_jax.images.labels` does that).

  Raises:
    ImageFileError: As `read_image`, and for an image with channels.
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
  """Writes a picture to look at, uint8 (H, W, 3), as PNG."""
  iio.imwrite(path, picture)


def list_images(
  folder: str | pathlib.Path, *, every_kind: bool = False
) -> list[pathlib.Path]:
  """Returns a folder's TIFF, PNG and JPEG files, sorted, hidden ones left out.

  Args:
    folder: Where to look; not in folders within it.
    every_kind: Also OME-Zarr folders and files of microscopes' own formats.

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
  """Returns YX, or Y, X and C or S in any order, or refuses to guess."""
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
