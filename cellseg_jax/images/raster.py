"""Reading of PNG and JPEG files, with Pillow."""

from collections.abc import Iterator
import contextlib
import functools
import pathlib
import threading
from typing import Any

import imageio.v3 as iio
import numpy as np
from PIL import Image

from cellseg_jax.images.axes import UNSTATED
from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.opened import Loaded, Opened

_ONE_AT_A_TIME = threading.Lock()


def open_raster(path: pathlib.Path, *, palette: bool = False) -> Opened:
  """Opens a PNG or JPEG file; its pixels are decoded when first read.

  Args:
    path: The file.
    palette: Whether to read the indices of a palette file, not its colours.

  Raises:
    ImageFileError: The file has colours of 16 bits, of which Pillow reads 8.
  """
  with _without_pillows_limit():
    with Image.open(path) as file:
      indices = palette and file.mode == 'P'
      stored = str(file.tile[0][3]) if file.tile else ''
      lossy = '16' in stored and not file.mode.startswith('I')
    found = iio.improps(path, plugin='pillow')
  if lossy:
    raise ImageFileError(
      f'{path}: has colours of 16 bits, of which only 8 would be read; save it '
      'as TIFF'
    )
  options = {'mode': 'P'} if indices else {}
  axes = UNSTATED * bool(found.is_batch)
  axes += 'YXS'[: 2 if indices else len(found.shape) - len(axes)]
  shape = found.shape[: len(axes)]
  y = axes.index('Y')
  size = (shape[y], shape[y + 1])
  load = functools.partial(load_raster, path, size, **options)
  return Opened(Loaded(shape, np.dtype(found.dtype), load), axes)


def load_raster(
  path: pathlib.Path, size: tuple[int, int], **options: Any
) -> np.ndarray:
  """Decodes a file with Pillow.

  Args:
    path: The file.
    size: Height and width, as another reader found them and checked; Pillow may
      read the header differently.
    **options: Options of imageio.

  Raises:
    ValueError: Pillow finds another size.
  """
  with _without_pillows_limit():
    with Image.open(path) as file:
      if file.size[::-1] != tuple(size):
        raise ValueError(
          f'is of {file.size[::-1]} pixels for one reader and of {size} for '
          'another'
        )
    return iio.imread(path, plugin='pillow', **options)


@contextlib.contextmanager
def _without_pillows_limit() -> Iterator[None]:
  """Switches off Pillow's limit on pixels; `check_size` has its own."""
  with _ONE_AT_A_TIME:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
      yield
    finally:
      Image.MAX_IMAGE_PIXELS = limit
