"""Safe decoding of Zarr arrays of unknown origin.

The metadata of an array name the codecs that decode its chunks. Some installed
codecs execute code from the data (`pickle`), and most can expand a few bytes to
any size; so only known codecs are allowed, with a bound on the decoded size.
"""

from collections.abc import Iterable, Sequence
import dataclasses
import math
import pathlib
from typing import Any

import numcodecs.abc
import numcodecs.compat
import zarr
from zarr.codecs import BloscCodec, GzipCodec, ShardingCodec, ZstdCodec

from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.expansion import check_expansion, KINDS

# Allowed codecs: they turn numbers into numbers, or bytes into bytes.
_V2 = frozenset(
  {'blosc', 'zlib', 'gzip', 'zstd', 'lz4', 'bz2', 'lzma'}
  | {'delta', 'fixedscaleoffset', 'quantize', 'bitround', 'packbits'}
  | {'astype', 'shuffle'}
  | {'crc32', 'crc32c', 'adler32', 'fletcher32', 'jenkins_lookup3'}
)
_V3 = frozenset(
  {'bytes', 'transpose', 'crc32c', 'sharding_indexed', 'gzip', 'zstd', 'blosc'}
)
# Maximum number of chunks in a shard: the size of its index grows with them,
# however small the file is.
_MOST_CHUNKS = 2**22


def guarded(path: pathlib.Path, array: zarr.Array) -> zarr.Array:
  """Returns the array with checked codecs and a bound on decoded sizes.

  Args:
    path: Name of the array in messages.
    array: An open array that has not been read yet.

  Raises:
    ImageFileError: The array has a codec that is not allowed, or shards with
      too many chunks.
  """
  metadata: Any = array.metadata
  if metadata.zarr_format == 2:
    codecs = _v2_codecs(path, metadata, array.dtype.itemsize)
  else:
    shape = array.shards or array.chunks
    codecs = {'codecs': _v3_codecs(path, metadata.codecs, shape)}
  metadata = dataclasses.replace(metadata, **codecs)
  return zarr.Array(zarr.AsyncArray(metadata, array.store_path))


def _check_names(
  path: pathlib.Path, names: Iterable[str], known: Iterable[str]
) -> None:
  unknown = sorted(set(names) - set(known))
  if unknown:
    raise ImageFileError(
      f'{path}: is compressed with {", ".join(unknown)}, and of what others '
      f'send only {", ".join(sorted(known))} are decoded; save it with one of '
      'these'
    )


class _Bounded(numcodecs.abc.Codec):
  """A Zarr v2 codec that refuses data far larger than a chunk."""

  codec_id = ''  # Zarr requires it on the class too.

  def __init__(self, codec: numcodecs.abc.Codec, expected: int):
    self.codec_id = codec.codec_id
    self._codec, self._expected = codec, expected

  def encode(self, buf: Any) -> Any:
    return self._codec.encode(buf)

  def decode(self, buf: Any, out: Any = None) -> Any:
    data = numcodecs.compat.ensure_bytes(buf)
    check_expansion(self.codec_id, data, self._expected)
    return self._codec.decode(data, out)

  def get_config(self) -> dict[str, Any]:
    return self._codec.get_config()


def _v2_codecs(
  path: pathlib.Path, metadata: Any, itemsize: int
) -> dict[str, Any]:
  """Returns the filters and the compressor of a v2 array, bounded."""
  filters = list(metadata.filters or ())
  compressors = [metadata.compressor] if metadata.compressor else []
  _check_names(path, (c.codec_id for c in filters + compressors), _V2)
  expected = math.prod(metadata.chunks) * itemsize
  bounded = [
    _Bounded(codec, expected) if codec.codec_id in KINDS else codec
    for codec in filters + compressors
  ]
  return {
    'filters': bounded[: len(filters)] or None,
    'compressor': bounded[-1] if compressors else None,
  }


class _BoundedV3:
  """Mix-in for Zarr v3 codecs: checks the decoded size before decoding."""

  async def _decode_single(self, chunk_bytes: Any, chunk_spec: Any) -> Any:
    dtype = chunk_spec.dtype
    if hasattr(dtype, 'to_native_dtype'):  # From zarr 3.1 on.
      dtype = dtype.to_native_dtype()
    expected = math.prod(chunk_spec.shape) * dtype.itemsize
    kind = self.to_dict()['name']  # type: ignore[attr-defined]
    check_expansion(kind, chunk_bytes.to_bytes(), expected)
    return await super()._decode_single(  # type: ignore[misc]
      chunk_bytes, chunk_spec
    )


class _Gzip(_BoundedV3, GzipCodec): ...


class _Zstd(_BoundedV3, ZstdCodec): ...


class _Blosc(_BoundedV3, BloscCodec): ...


_BOUNDED = {'gzip': _Gzip, 'zstd': _Zstd, 'blosc': _Blosc}


def _v3_codecs(
  path: pathlib.Path, codecs: Sequence[Any], shape: Sequence[int]
) -> tuple[Any, ...]:
  """Returns the codecs of a v3 array, bounded, also those inside shards.

  Args:
    path: Name of the array in messages.
    codecs: The codecs.
    shape: Shape of the chunks that they decode.

  Raises:
    ImageFileError: A codec is not allowed, or a shard has too many chunks.
  """
  described = [codec.to_dict() for codec in codecs]
  _check_names(path, (one['name'] for one in described), _V3)
  result = []
  for codec, one in zip(codecs, described, strict=True):
    if isinstance(codec, ShardingCodec):
      inner = codec.chunk_shape
      if math.prod(shape) > _MOST_CHUNKS * math.prod(inner):
        raise ImageFileError(
          f'{path}: its shards {tuple(shape)} are of more than {_MOST_CHUNKS} '
          f'chunks {inner} each; save it with smaller shards'
        )
      codec = dataclasses.replace(
        codec,
        codecs=_v3_codecs(path, codec.codecs, inner),
        index_codecs=_v3_codecs(path, codec.index_codecs, inner),
      )
    elif one['name'] in _BOUNDED:
      bounded: Any = _BOUNDED[one['name']]
      codec = bounded.from_dict(one)
    result.append(codec)
  return tuple(result)
