"""Read and write images and label images; axes are explicit, never guessed."""

import os
import pathlib
import struct
import zlib

import imageio.v3 as iio
import numpy as np
import tifffile

TIFF_SUFFIXES = ('.tif', '.tiff')
SUFFIXES = (*TIFF_SUFFIXES, '.png', '.jpg', '.jpeg')

# The last axis of an array without metadata is taken for channels up to here.
_MOST_UNNAMED_CHANNELS = 4

# What the readers raise on files that are cut off or not what they claim.
_READ_ERRORS = (
  ValueError,  # Includes tifffile.TiffFileError.
  OSError,
  KeyError,
  IndexError,
  TypeError,
  SyntaxError,  # Pillow, of a broken PNG.
  struct.error,
  zlib.error,
)


class ImageFileError(ValueError):
  """A file is not an image that can be read without guessing."""


def read_image(path: str | pathlib.Path) -> np.ndarray:
  """Reads one image with its intensities as they are.

  Args:
    path: A TIFF, PNG or JPEG file of one 2-D image.

  Returns:
    The image, (H, W) or (H, W, C), in the file's own dtype. Channels come last
    wherever the TIFF's metadata place them.

  Raises:
    ImageFileError: The file is missing, cut off, of another kind, or of a shape
      with several readings; the message names it and says what to do.
  """
  return _read(pathlib.Path(path), palette=False)


def read_labels(path: str | pathlib.Path) -> np.ndarray:
  """Reads one label image; of a palette file the indices, not the colours.

  Args:
    path: A TIFF or PNG file.

  Returns:
    The labels, (H, W), in the file's own dtype; values are not checked
    (`cellseg_jax.images.labels` does that).

  Raises:
    ImageFileError: As `read_image`, and for an image with channels.
  """
  path = pathlib.Path(path)
  labels = _read(path, palette=True)
  if labels.ndim != 2:
    raise ImageFileError(
      f'{path}: a label image must be of shape (height, width), found '
      f'{labels.shape}; save one integer a pixel, not colours'
    )
  return labels


def write_labels(path: str | pathlib.Path, labels: np.ndarray) -> None:
  """Writes a label image as zlib-compressed TIFF, whole or not at all.

  Args:
    path: File to write; its folder must exist. An older file is replaced.
    labels: Integers (H, W) from 0 to 2**32 - 1; written as uint16, or as
      uint32 when a value needs it.

  Raises:
    ValueError: The labels are not such integers.
  """
  path = pathlib.Path(path)
  if labels.ndim != 2 or not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(
      f'{path}: labels must be integers of shape (height, width), found '
      f'{labels.dtype} {labels.shape}'
    )
  low, high = (labels.min(), labels.max()) if labels.size else (0, 0)
  if low < 0 or high >= 2**32:
    raise ValueError(
      f'{path}: labels must be 0 to 2**32 - 1, found {low} to {high}'
    )
  dtype = np.uint16 if high < 2**16 else np.uint32
  # A reader, or a run that is killed here, never meets half a file.
  temporary = path.with_name(f'.{path.stem}.{os.getpid()}.tif')
  try:
    tifffile.imwrite(temporary, labels.astype(dtype), compression='zlib')
    os.replace(temporary, path)
  finally:
    temporary.unlink(missing_ok=True)


def write_picture(path: str | pathlib.Path, picture: np.ndarray) -> None:
  """Writes a picture to look at, uint8 (H, W, 3), as PNG."""
  iio.imwrite(path, picture)


def list_images(folder: str | pathlib.Path) -> list[pathlib.Path]:
  """Returns a folder's TIFF, PNG and JPEG files, sorted, hidden ones left out.

  Raises:
    ImageFileError: There is no such folder.
  """
  folder = pathlib.Path(folder)
  if not folder.is_dir():
    raise ImageFileError(f'{folder}: no such folder')
  return sorted(
    path
    for path in folder.iterdir()
    if path.suffix.lower() in SUFFIXES
    and not path.name.startswith('.')
    and path.is_file()
  )


def _read(path: pathlib.Path, *, palette: bool) -> np.ndarray:
  suffix = path.suffix.lower()
  if suffix not in SUFFIXES:
    raise ImageFileError(
      f'{path}: cannot read {suffix or "a file without suffix"}; save it as '
      f'one of {", ".join(SUFFIXES)}'
    )
  if not path.is_file():
    raise ImageFileError(f'{path}: no such file')
  if not path.stat().st_size:
    raise ImageFileError(f'{path}: the file is empty; save or copy it again')
  try:
    if suffix in TIFF_SUFFIXES:
      array, axes = _read_tiff(path)
    else:
      array, axes = _read_other(path, palette), None
  except ImageFileError:
    raise
  except _READ_ERRORS as error:
    raise ImageFileError(
      f'{path}: cannot be read ({type(error).__name__}: {error}); the file is '
      'cut off, damaged or of another kind: save or copy it again'
    ) from error
  return _channels_last(path, array, axes)


def _read_tiff(path: pathlib.Path) -> tuple[np.ndarray, str | None]:
  """Reads a TIFF; also returns its axes where its metadata state them."""
  with tifffile.TiffFile(path) as tiff:
    series = tiff.series
    if not series:
      raise ValueError('no image in it')
    if len(series) > 1:
      shapes = ', '.join(str(one.shape) for one in series)
      raise ImageFileError(
        f'{path}: holds {len(series)} images ({shapes}), expected '
        'one; save each image to a file of its own'
      )
    axes = series[0].axes
    codec = series[0].keyframe.compression
    try:
      array = series[0].asarray()
    except ValueError as error:
      if 'imagecodecs' not in str(error):
        raise
      array = _read_with_pillow(path, codec.name)
  if array.ndim != len(axes):
    raise ImageFileError(f'{path}: axes {axes} do not fit shape {array.shape}')
  # tifffile names axes that nothing states Q or I.
  return array, None if set(axes) & set('QI') else axes


def _read_with_pillow(path: pathlib.Path, codec: str) -> np.ndarray:
  """Reads common old codecs (LZW) that tifffile leaves to imagecodecs."""
  try:
    return iio.imread(path, plugin='pillow')
  except _READ_ERRORS as error:
    raise ImageFileError(
      f'{path}: cannot decompress {codec} ({error}); `pip install '
      'imagecodecs`, or save it uncompressed or with zlib (deflate)'
    ) from error


def _read_other(path: pathlib.Path, palette: bool) -> np.ndarray:
  if palette and iio.immeta(path, plugin='pillow').get('mode') == 'P':
    return iio.imread(path, plugin='pillow', mode='P')
  return iio.imread(path, plugin='pillow')


def _channels_last(
  path: pathlib.Path, array: np.ndarray, axes: str | None
) -> np.ndarray:
  """Returns the array as (H, W) or (H, W, C), or refuses to guess."""
  if array.ndim == 2 and array.size:
    return array
  if array.ndim == 3 and array.size:
    if axes is not None and sorted(axes) in (sorted('YXC'), sorted('YXS')):
      order = [
        axes.index('Y'),
        axes.index('X'),
        3 - axes.index('Y') - axes.index('X'),
      ]
      return array.transpose(order)
    if axes is None and array.shape[2] <= _MOST_UNNAMED_CHANNELS < min(
      array.shape[:2]
    ):
      return array
  raise ImageFileError(
    f'{path}: shape {array.shape}'
    + (f' with axes {axes}' if axes else ' without stated axes')
    + f' is not one 2-D image; it may be {_readings(array.shape, axes)}. Save '
    'one image (height, width) or (height, width, channels) a file'
  )


def _readings(shape: tuple[int, ...], axes: str | None) -> str:
  """Says what an array of this shape could be."""
  if axes is not None:
    names = {'Z': 'depth', 'T': 'time', 'C': 'channel', 'S': 'sample'}
    return 'a stack over ' + ', '.join(
      f'{names.get(axis, axis)} ({size})'
      for axis, size in zip(axes, shape, strict=True)
      if axis not in 'YX'
    )
  if len(shape) == 3:
    return (
      f'{shape[0]} channels, depths or times of {shape[1]}x{shape[2]}, or '
      f'{shape[0]}x{shape[1]} with {shape[2]} channels'
    )
  return f'a stack of {len(shape)} axes'
