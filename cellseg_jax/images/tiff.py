"""Reading of TIFF, ImageJ TIFF and OME-TIFF files, block by block."""

from collections.abc import Iterator
import contextlib
import functools
import logging
import pathlib
import threading
from typing import Any
from xml.etree import ElementTree

import numpy as np
import tifffile

from cellseg_jax.images.axes import UNSTATED
from cellseg_jax.images.errors import choose_scene, ImageFileError
from cellseg_jax.images.opened import LazyArray, Loaded, Opened
from cellseg_jax.images.raster import load_raster
from cellseg_jax.images.tiff_checks import (
  bound_decoder,
  check_complete,
  check_ome,
  check_pages,
)
from cellseg_jax.images.units import pixel_size_of


class Mapped:
  """Uncompressed, contiguous pixels of a file, read by memory mapping."""

  def __init__(
    self,
    path: pathlib.Path,
    offset: int,
    shape: tuple[int, ...],
    dtype: np.dtype,
  ):
    self.shape, self.dtype = shape, dtype
    self.chunks = (1,) * len(shape)
    self._map = functools.partial(
      np.memmap, path, dtype, 'r', offset, shape=shape
    )

  def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
    # Mapped anew for each read: pages of a lasting map would count as memory.
    return np.array(self._map()[index])


def open_tiff(
  path: pathlib.Path, stack: contextlib.ExitStack, scene: str = ''
) -> Opened:
  """Opens one image of a TIFF file; of a pyramid, the full resolution.

  Args:
    path: The file.
    stack: Closes the file when it is closed.
    scene: Name or index of the image in a file of several; '' for files of one.

  Raises:
    ImageFileError: The image is incomplete or its axes do not fit, the file
      names parts elsewhere, or the scene is missing or not chosen.
    ValueError: The file is damaged or holds no image.
  """
  with _complaints_are_errors():
    tiff = stack.enter_context(tifffile.TiffFile(path))
    check_pages(tiff)
    check_ome(path, tiff)
    if not tiff.series:
      raise ValueError('no image in it')
  scenes = [(one.name, str(one.shape)) for one in tiff.series]
  number = choose_scene(path, scenes, scene)
  series = tiff.series[number].levels[0]
  if len(series.shape) != len(series.axes):
    raise ImageFileError(
      f'{path}: axes {series.axes} do not fit shape {series.shape}'
    )
  check_complete(path, series)
  pixel_size: tuple[float, float] | None = None
  names: list[str] = []
  if tiff.is_ome:
    pixel_size, names = _from_ome(tiff, number)
  elif tiff.is_imagej:
    unit = (tiff.imagej_metadata or {}).get('unit')
    width, height = (1 / n if n else 0 for n in tiff.pages[0].resolution)
    pixel_size = pixel_size_of((height, width), (unit, unit))
  array = _array(path, stack, series)
  return Opened(array, _stated(series), pixel_size, names, _stored(series))


class _Complaints(logging.Handler):
  """Collects the errors that tifffile logs in this thread."""

  def __init__(self) -> None:
    super().__init__(logging.ERROR)
    self.thread = threading.get_ident()
    self.texts: list[str] = []

  def emit(self, record: logging.LogRecord) -> None:
    text = record.getMessage()
    # A tag of an unknown type is harmless, one beyond the file's end is not.
    harmless = (
      text.startswith('<TiffTag') and 'invalid value offset' not in text
    )
    if record.thread == self.thread and not harmless:
      self.texts.append(text)


@contextlib.contextmanager
def _complaints_are_errors() -> Iterator[None]:
  """Raises errors that tifffile only logs.

  Without this, tifffile returns just the intact pages of a damaged file.
  """
  complaints, logger = _Complaints(), logging.getLogger('tifffile')
  logger.addHandler(complaints)
  try:
    yield
  finally:
    logger.removeHandler(complaints)
  if complaints.texts:
    raise ValueError(complaints.texts[0])


def _stated(series: tifffile.TiffPageSeries) -> str:
  """Returns the stated axes; tifffile calls those not stated Q or I."""
  axes = series.axes.replace('Q', UNSTATED).replace('I', UNSTATED)
  if UNSTATED in axes and series.kind == 'shaped' and 'S' not in axes:
    # An array saved without axes: the last two need not be height and width.
    return UNSTATED * len(axes)
  return axes


def _array(
  path: pathlib.Path,
  stack: contextlib.ExitStack,
  series: tifffile.TiffPageSeries,
) -> LazyArray:
  if series.dataoffset is not None and not series.is_multifile:
    parent: Any = series.parent
    dtype = series.dtype.newbyteorder(parent.byteorder)
    return Mapped(path, series.dataoffset, series.shape, dtype)
  codec, predictor = series.keyframe.compression, series.keyframe.predictor
  if (
    codec not in tifffile.TIFF.DECOMPRESSORS
    or predictor not in tifffile.TIFF.UNPREDICTORS
  ):
    first = len(series.pages) == 1 and series.keyframe.index == 0
    load = functools.partial(_load_with_pillow, path, series, first)
    return Loaded(series.shape, series.dtype, load)
  import zarr  # Imported late: it is as slow to import as all the rest.

  bound_decoder(series.keyframe)
  store = series.aszarr(level=0)
  stack.callback(store.close)
  return zarr.open_array(store, mode='r')


def _stored(series: tifffile.TiffPageSeries) -> int | None:
  """Returns the bytes of all files of an image; None if it is one file."""
  if not series.is_multifile:
    return None
  files = {page.parent for page in series.pages if page is not None}
  return sum(file.filehandle.size for file in files)


def _load_with_pillow(
  path: pathlib.Path, series: tifffile.TiffPageSeries, first: bool
) -> np.ndarray:
  """Reads common old codecs (LZW) that tifffile needs imagecodecs for."""
  codec = series.keyframe.compression
  try:
    if first:
      y = series.axes.index('Y')
      return load_raster(path, (series.shape[y], series.shape[y + 1]))
    cause: Exception | str = 'only of a single page'
  except (ValueError, OSError) as error:
    cause = error
  name = getattr(codec, 'name', codec)  # Unknown codecs are plain numbers.
  raise ImageFileError(
    f'{path}: cannot decompress {name} ({cause}); `pip install imagecodecs`, '
    'or save it uncompressed or with zlib (deflate)'
  )


def _from_ome(
  tiff: tifffile.TiffFile, number: int
) -> tuple[tuple[float, float] | None, list[str]]:
  """Reads the pixel size and channel names of an image from the OME-XML."""
  pixels = ElementTree.fromstring(str(tiff.ome_metadata)).findall(
    '{*}Image/{*}Pixels'
  )
  if len(pixels) != len(tiff.series):
    return None, []
  found = pixels[number]
  pixel_size = pixel_size_of(
    [found.get(f'PhysicalSize{axis}') for axis in 'YX'],
    [found.get(f'PhysicalSize{axis}Unit', 'µm') for axis in 'YX'],
  )
  names = [channel.get('Name', '') for channel in found.findall('{*}Channel')]
  return pixel_size, names if any(names) else []
