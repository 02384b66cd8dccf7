"""PNG and JPEG files."""

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
    palette: Of a palette file the indices, not the colours.
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
  load = functools.partial(load_raster, path, **options)
  return Opened(Loaded(shape, np.dtype(found.dtype), load), axes)


def load_raster(path: pathlib.Path, **options: Any) -> np.ndarray:
  """Decodes a file with Pillow; its size must have been checked."""
  with _without_pillows_limit():
    return iio.imread(path, plugin='pillow', **options)


@contextlib.contextmanager
def _without_pillows_limit() -> Iterator[None]:
  """Leaves the limit on pixels to `check_size`, which a caller can raise."""
  with _ONE_AT_A_TIME:
    limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
    try:
      yield
    finally:
      Image.MAX_IMAGE_PIXELS = limit
