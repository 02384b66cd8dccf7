"""What TIFF files are tested for: tifffile takes them at their word."""

import math
import pathlib
import re
import struct
from typing import Any

import numpy as np
import tifffile

from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.expansion import check_expansion

_MOST_PAGES = 2**18

# Codecs that `expansion` knows.
_COMPRESSION = tifffile.COMPRESSION
_KINDS = {
  _COMPRESSION.ADOBE_DEFLATE: 'zlib',
  _COMPRESSION.DEFLATE: 'zlib',
  _COMPRESSION.LZMA: 'lzma',
  _COMPRESSION.ZSTD: 'zstd',
  _COMPRESSION.JPEG: 'jpeg',
  _COMPRESSION.ALT_JPEG: 'jpeg',
  _COMPRESSION.JPEG2000: 'jpeg2000',
  _COMPRESSION.APERIO_JP2000_YCBC: 'jpeg2000',
  _COMPRESSION.APERIO_JP2000_RGB: 'jpeg2000',
}


# Those that do not say in their data how large an image is.
_WITHOUT_SIZE = ('zlib', 'lzma', 'zstd')


def check_pages(tiff: tifffile.TiffFile) -> None:
  """Refuses pages that follow one another in a circle, or are too many.

  tifffile goes round some of them for ever.

  Args:
    tiff: The file, with nothing but its first page read.

  Raises:
    ValueError: They do.
  """
  form, file = tiff.tiff, tiff.filehandle
  seen: set[int] = set()
  offset = tiff.pages.first.offset
  try:
    while 0 < offset < file.size:
      if offset in seen:
        raise ValueError('its last page is followed by an earlier one')
      if len(seen) == _MOST_PAGES:
        raise ValueError(f'it has more than {_MOST_PAGES} pages')
      seen.add(offset)
      file.seek(offset)
      (tags,) = struct.unpack(form.tagnoformat, file.read(form.tagnosize))
      file.seek(offset + form.tagnosize + tags * form.tagsize)
      (offset,) = struct.unpack(form.offsetformat, file.read(form.offsetsize))
  except struct.error:
    pass  # The file ends: left to whoever reads its pages.


def check_ome(path: pathlib.Path, tiff: tifffile.TiffFile) -> None:
  """Refuses OME-XML that leads elsewhere or grows; before it is parsed.

  Args:
    path: The file.
    tiff: It, with nothing but its first page read.

  Raises:
    ImageFileError: It declares entities, or names files outside of the folder
      or what is no file.
  """
  text = tiff.ome_metadata or ''
  if '<!ENTITY' in text or '<!DOCTYPE' in text:
    raise ImageFileError(
      f'{path}: its OME-XML declares entities, which that of images does not; '
      'save it again'
    )
  for name in re.findall(r'FileName\s*=\s*["\']([^"\']*)', text):
    other = pathlib.Path(name)
    if other.is_absolute() or '..' in other.parts:
      raise ImageFileError(
        f'{path}: its OME-XML names {name!r} as a part of it; the files of a '
        'set must lie in one folder'
      )
    if (path.parent / other).exists() and not (path.parent / other).is_file():
      raise ImageFileError(
        f'{path}: its OME-XML names {name!r} as a part of it, which is no file'
      )


def check_complete(path: pathlib.Path, series: tifffile.TiffPageSeries) -> None:
  """Refuses an image of which strips or tiles lie beyond the file's end.

  Args:
    path: The file.
    series: The image in it.

  Raises:
    ImageFileError: Some of its planes are not there.
    ValueError: The file ends too early.
  """
  if not math.prod(series.shape):
    return  # No pixels: refused by whoever reads it.
  if series.dataoffset is not None:
    # Of such a stack, only the first page may have a header.
    end = series.dataoffset + math.prod(series.shape) * series.dtype.itemsize
    ends: list[tuple[Any, int]] = [(series.parent, end)]
  elif None in series.pages:
    raise ImageFileError(
      f'{path}: some of its {len(series.pages)} planes are not there; put the '
      'other files of its set beside it, or copy it again'
    )
  else:
    pages: Any = series.pages  # None of them is None.
    ends = [
      (page.parent, offset + count)
      for page in pages
      for offset, count in zip(
        page.dataoffsets, page.databytecounts, strict=True
      )
    ]
  if any(end > file.filehandle.size for file, end in ends):
    raise ValueError(f'the file ends before its {series.shape} pixels do')


def bound_decoder(page: tifffile.TiffPage) -> None:
  """Makes a page refuse strips and tiles that hold far more than they should.

  Args:
    page: The first of an image; tifffile decodes all with it.
  """
  kinds: Any = _KINDS
  kind = kinds.get(page.compression)
  if kind is None or (kind in _WITHOUT_SIZE and _keeps_to_size(page)):
    return
  decode = page.decode
  expected = math.prod(page.chunks) * np.dtype(page.dtype).itemsize

  def bounded(data: bytes | None, *arguments: Any, **options: Any) -> Any:
    # Some have the header of a JPEG apart.
    header = options.get('jpegheader') or data
    if header is not None:
      check_expansion(kind, header, expected)
    return decode(data, *arguments, **options)

  page.decode = bounded


def _keeps_to_size(page: tifffile.TiffPage) -> bool:
  """Whether no more is decoded than asked for: by imagecodecs, if installed.

  What Python has of its own decodes all, so that it must be counted before.
  """
  decoder = tifffile.TIFF.DECOMPRESSORS[page.compression]
  return (decoder.__module__ or '').startswith('imagecodecs')
