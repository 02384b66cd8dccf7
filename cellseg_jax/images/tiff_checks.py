"""Checks of TIFF files that tifffile does not make itself.

Against endless chains of pages, OME-XML that points elsewhere, files that are
cut off, and decompression bombs.
"""

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

# Names in `expansion` of the codecs that it can check.
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


# Compressed data of these kinds do not state the size of the image.
_WITHOUT_SIZE = ('zlib', 'lzma', 'zstd')


def check_pages(tiff: tifffile.TiffFile) -> None:
  """Refuses a chain of pages that is a circle or too long.

  Some circles make tifffile loop forever.

  Args:
    tiff: The file, of which only the first page has been read.

  Raises:
    ValueError: The pages form a circle, or are too many.
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
    pass  # The file is cut off, which is reported when its pages are read.


def check_ome(path: pathlib.Path, tiff: tifffile.TiffFile) -> None:
  """Refuses OME-XML with entities or with paths outside the folder.

  Must be called before the XML is parsed.

  Args:
    path: The file.
    tiff: The same file, of which only the first page has been read.

  Raises:
    ImageFileError: The XML declares entities, or names a path outside the
      folder or one that is not a file.
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
  """Refuses an image with strips or tiles beyond the end of the file.

  Args:
    path: The file.
    series: The image in it.

  Raises:
    ImageFileError: Some planes are missing.
    ValueError: The file ends too early.
  """
  if not math.prod(series.shape):
    return  # No pixels, which `check_size` refuses.
  if series.dataoffset is not None:
    # In such a contiguous stack, only the first page may have a header.
    end = series.dataoffset + math.prod(series.shape) * series.dtype.itemsize
    ends: list[tuple[Any, int]] = [(series.parent, end)]
  elif None in series.pages:
    raise ImageFileError(
      f'{path}: some of its {len(series.pages)} planes are not there; put the '
      'other files of its set beside it, or copy it again'
    )
  else:
    pages: Any = series.pages  # No page is None here.
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
  """Makes a page refuse strips and tiles that would decode far too large.

  Args:
    page: First page of an image; tifffile decodes all pages with it.
  """
  kinds: Any = _KINDS
  kind = kinds.get(page.compression)
  if kind is None or (kind in _WITHOUT_SIZE and _keeps_to_size(page)):
    return
  decode = page.decode
  expected = math.prod(page.chunks) * np.dtype(page.dtype).itemsize

  def bounded(data: bytes | None, *arguments: Any, **options: Any) -> Any:
    # Some files store the header of their JPEG data separately.
    header = options.get('jpegheader') or data
    if header is not None:
      check_expansion(kind, header, expected)
    return decode(data, *arguments, **options)

  page.decode = bounded


def _keeps_to_size(page: tifffile.TiffPage) -> bool:
  """Returns whether the decoder stops at the expected size.

  Those of imagecodecs, if it is installed, do. Python's own decode everything,
  so that the size must be checked before.
  """
  decoder = tifffile.TIFF.DECOMPRESSORS[page.compression]
  return (decoder.__module__ or '').startswith('imagecodecs')
