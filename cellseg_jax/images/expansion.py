"""Guard against decompression bombs: bounds the decoded size of data.

A kilobyte can decompress to gigabytes. The decoded size of a piece of an image
is known in advance, so that data that would become far more are refused without
decoding them into memory.
"""

import bz2
from collections.abc import Callable
import lzma
import struct
from typing import Any
import zlib

# Filters may follow that turn types of 8 bytes into types of 1 byte.
_SLACK = 8
_AT_LEAST = 2**20
_AT_ONCE = 2**20
_MOST_OF_DEFLATE = 1032  # Maximum expansion factor, according to zlib.
_ZSTD_BLOCK = 2**17  # RFC 8878, 3.1.1.2.4: maximum bytes of a block.
_LZMA_MEMORY = 2**28  # xz -9 needs 65 MB.


class ExpansionError(ValueError):
  """Compressed data would become far larger than they should be."""


def check_expansion(kind: str, data: bytes, expected: int) -> None:
  """Refuses compressed data that would become far larger than expected.

  Args:
    kind: Name of the compression; those not in `KINDS` are not checked.
    data: The compressed data. Damaged data pass: their decoder reports them.
    expected: Expected number of bytes after decompression.

  Raises:
    ExpansionError: There would be more than eight times the expected bytes plus
      a megabyte.
  """
  most = _SLACK * expected + _AT_LEAST
  measure = KINDS.get(kind)
  found = measure(data, most) if measure else 0
  if found > most:
    raise ExpansionError(
      f'{len(data)} bytes of {kind} would become {found} or more, and '
      f'{expected} are expected'
    )


def _deflate(data: bytes, most: int) -> int:
  if len(data) * _MOST_OF_DEFLATE <= most:
    return 0
  # With 32 added, zlib detects a gzip or a zlib header by itself.
  return _counted(lambda: zlib.decompressobj(zlib.MAX_WBITS | 32), data, most)


def _bz2(data: bytes, most: int) -> int:
  return _counted(lambda: _Fed(bz2.BZ2Decompressor()), data, most)


def _lzma(data: bytes, most: int) -> int:
  return _counted(
    lambda: _Fed(lzma.LZMADecompressor(memlimit=_LZMA_MEMORY)), data, most
  )


class _Fed:
  """A bz2 or lzma decompressor with the interface of zlib's."""

  def __init__(self, inner: Any):
    self._inner = inner

  def decompress(self, data: bytes, most: int) -> bytes:
    return self._inner.decompress(data, most)

  @property
  def eof(self) -> bool:
    return self._inner.eof

  @property
  def unused_data(self) -> bytes:
    return self._inner.unused_data

  @property
  def unconsumed_tail(self) -> bytes:
    return b''  # bz2 and lzma keep it themselves.


def _counted(new: Callable[[], Any], data: bytes, most: int) -> int:
  """Counts the bytes of consecutive streams, until there are too many."""
  total, decompressor = 0, new()
  data = bytes(data)
  while total <= most:
    try:
      piece = decompressor.decompress(data, _AT_ONCE)
    except (zlib.error, lzma.LZMAError, OSError):
      break
    total += len(piece)
    if decompressor.eof:
      data, decompressor = decompressor.unused_data, new()
      if not data:
        break
    else:
      data = decompressor.unconsumed_tail
      if not piece:
        break
  return total


def _zstd(data: bytes, most: int) -> int:
  """Adds up the sizes that frames state, or the maximum of their blocks.

  The format is RFC 8878.
  """
  total, place = 0, 0
  try:
    while total <= most and place + 4 <= len(data):
      (magic,) = struct.unpack_from('<I', data, place)
      if magic & 0xFFFFFFF0 == 0x184D2A50:  # A skippable frame.
        place += 8 + struct.unpack_from('<I', data, place + 4)[0]
        continue
      if magic != 0xFD2FB528:
        break  # Other data follow, or none that can be decoded.
      stated, place, checksum = _zstd_header(data, place + 4)
      blocks, place = _zstd_blocks(data, place, most)
      place += 4 * checksum
      total += blocks if stated is None else stated
  except (struct.error, IndexError):
    pass
  return total


def _zstd_header(data: bytes, place: int) -> tuple[int | None, int, bool]:
  """Reads a frame header.

  Returns:
    The stated size in bytes, or None; where the blocks begin; and whether a
    checksum follows them.
  """
  flags = data[place]
  single = bool(flags & 0x20)
  place += 1 + (not single) + (0, 1, 2, 4)[flags & 3]
  kind = flags >> 6
  stated = None
  if kind or single:
    stated = struct.unpack_from('<' + 'BHIQ'[kind], data, place)[0]
    place += 2**kind
    stated += 256 * (kind == 1)
  return stated, place, bool(flags & 4)


def _zstd_blocks(data: bytes, place: int, most: int) -> tuple[int, int]:
  """Returns the maximum size of a frame's blocks, and where they end."""
  total, last = 0, False
  while not last and total <= most:
    low, high = struct.unpack_from('<HB', data, place)
    header = low | high << 16
    last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
    total += _ZSTD_BLOCK if kind == 2 else size
    place += 3 + (1 if kind == 1 else size)  # Kind 1 repeats one byte.
  return total, place


def _blosc(data: bytes, most: int) -> int:
  return struct.unpack_from('<I', data, 4)[0] if len(data) >= 8 else 0


def _lz4(data: bytes, most: int) -> int:
  """Returns the size that numcodecs stores before the LZ4 data."""
  return struct.unpack_from('<I', data)[0] if len(data) >= 4 else 0


def _jpeg(data: bytes, most: int) -> int:
  """Returns the bytes of the samples that a JPEG's frame header states.

  ITU-T T.81, B.1 and B.2.
  """
  place = 2
  while place + 10 <= len(data) and data[place] == 0xFF:
    marker = data[place + 1]
    if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
      bits, height, width, samples = struct.unpack_from(
        '>BHHB', data, place + 4
      )
      return height * width * samples * (2 if bits > 8 else 1)
    if marker == 0xFF:  # Padding before a marker.
      place += 1
    elif marker in (0x01, *range(0xD0, 0xD9)):
      place += 2
    else:
      place += 2 + struct.unpack_from('>H', data, place + 2)[0]
  return 0


def _jpeg2000(data: bytes, most: int) -> int:
  """Returns the size of the reference grid, times the components.

  ISO 15444-1, A.5.1.
  """
  place = bytes(data).find(b'\xff\x4f\xff\x51')
  if place < 0 or len(data) < place + 42:
    return 0
  right, bottom, left, top = struct.unpack_from('>4I', data, place + 8)
  (samples,) = struct.unpack_from('>H', data, place + 40)
  return max(right - left, 0) * max(bottom - top, 0) * samples


KINDS: dict[str, Callable[[bytes, int], int]] = {
  'gzip': _deflate,
  'zlib': _deflate,
  'bz2': _bz2,
  'lzma': _lzma,
  'zstd': _zstd,
  'blosc': _blosc,
  'lz4': _lz4,
  'jpeg': _jpeg,
  'jpeg2000': _jpeg2000,
}
