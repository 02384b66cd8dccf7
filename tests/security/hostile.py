"""Files as somebody would make them to harm whoever opens them."""

import bz2
import gzip
import json
import lzma
import os
import pickle
import struct
import zlib

import numcodecs
import numpy as np
import tensorstore as ts
import tifffile
import zarr

HUGE = (100_000, 100_000)
# Of zeros, so that their compressed form is small.
FLOOD = 2**24


def png(height, width, rows=b''):
  """A grey PNG file of any claimed size and these compressed rows."""
  header = struct.pack('>IIBBBBB', width, height, 8, 0, 0, 0, 0)
  content = b'\x89PNG\r\n\x1a\n'
  for kind, data in (
    (b'IHDR', header),
    (b'IDAT', zlib.compress(rows)),
    (b'IEND', b''),
  ):
    checksum = struct.pack('>I', zlib.crc32(kind + data))
    content += struct.pack('>I', len(data)) + kind + data + checksum
  return content


def tiff(path, shape=(16, 16), claims=None, data=None, **options):
  """A TIFF of zeros whose header claims a shape, or with other strip data."""
  defaults = {'compression': 'zlib', 'rowsperstrip': shape[0]}
  options = defaults | {'metadata': None} | options
  if 'tile' in options:
    del options['rowsperstrip']
  tifffile.imwrite(path, np.zeros(shape, np.uint8), **options)
  with tifffile.TiffFile(path, mode='r+') as file:
    tags = file.pages[0].tags
    if claims:
      tags['ImageLength'].overwrite(claims[0])
      tags['ImageWidth'].overwrite(claims[1])
      if 'RowsPerStrip' in tags:
        tags['RowsPerStrip'].overwrite(claims[0])
    if data:
      end = file.filehandle.size
      tags['StripOffsets'].overwrite(end)
      tags['StripByteCounts'].overwrite(len(data))
  if data:
    with open(path, 'ab') as file:
      file.write(data)
  return path


def flooded(kind, size=FLOOD):
  """Few bytes of a codec that stand for very many."""
  zeros = bytes(size)
  if kind == 'gzip':
    # Several members: each alone would be small.
    return gzip.compress(zeros[: size // 2]) * 2
  encode = {'zlib': zlib.compress, 'bz2': bz2.compress, 'lzma': lzma.compress}
  if kind in encode:
    return encode[kind](zeros)
  return bytes(numcodecs.get_codec({'id': kind}).encode(zeros))


def zarr_v2(path, chunk=b'', **metadata):
  """A Zarr array of version 2, of one chunk with these bytes."""
  path.mkdir()
  described = {
    'zarr_format': 2,
    'shape': [8, 8],
    'chunks': [8, 8],
    'dtype': '|u1',
    'compressor': None,
    'filters': None,
    'fill_value': 0,
    'order': 'C',
  }
  (path / '.zarray').write_text(json.dumps(described | metadata))
  if chunk:
    (path / '0.0').write_bytes(chunk)
  return path


def zarr_v3(path, kind, chunk, sharded=False):
  """A Zarr array of version 3, of one chunk that is replaced by other bytes."""
  codec = {
    'gzip': zarr.codecs.GzipCodec(),
    'zstd': zarr.codecs.ZstdCodec(),
    'blosc': zarr.codecs.BloscCodec(),
  }[kind]
  array = zarr.create_array(
    path,
    shape=(8, 8),
    chunks=(8, 8),
    shards=(8, 8) if sharded else None,
    dtype='uint8',
    compressors=codec,
  )
  array[:] = np.arange(64).reshape(8, 8)
  (place,) = (path / 'c' / '0').iterdir()
  if sharded:
    # Chunk, then index: its offset and size, and a checksum over both.
    index = struct.pack('<QQ', 0, len(chunk))
    checksum = numcodecs.get_codec({'id': 'crc32c'}).encode(index)
    chunk = chunk + bytes(checksum)
  place.write_bytes(chunk)
  return path


def node(content):
  """A node of OCDBT, but for its checksum, of compressed content."""
  length = (18 + len(content)).to_bytes(8, 'little')
  return b'\x0c\xdb\x20\xde' + length + b'\x00\x01' + content + bytes(4)


def stored(item):
  """What lies within an item of a checkpoint, to be read and replaced."""
  base = {'driver': 'file', 'path': f'{item}/'}
  return ts.KvStore.open({'driver': 'ocdbt', 'base': base}).result()


def claiming(item, claim, size=10**6):
  """Makes all arrays of an item of a checkpoint claim a shape or chunks."""
  keys = stored(item)
  names = [k for k in keys.list().result() if k.endswith(b'.zarray')]
  assert names
  for name in names:
    values = json.loads(keys.read(name).result().value)
    values[claim] = [size] * len(values[claim])
    keys.write(name, json.dumps(values).encode()).result()


class Runs:
  """Pickled, it makes a file of whoever reads it."""

  def __init__(self, path):
    self._path = path

  def __reduce__(self):
    return os.mkdir, (str(self._path),)


def pickled(path):
  """Bytes that make a folder at a path when they are unpickled."""
  return pickle.dumps(Runs(path))


# XML that becomes a thousand times larger with each of a few lines.
ENTITIES = '<?xml version="1.0"?><!DOCTYPE x [<!ENTITY a "aaaaaaaaaa">' + (
  ''.join(
    f'<!ENTITY {name} "{f"&{before};" * 10}">'
    for before, name in zip('abcdefgh', 'bcdefghi', strict=True)
  )
  + ']><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06">&i;</OME>'
)


def ome(*names):
  """OME-XML of two planes, each in a file of a name."""
  planes = ''.join(
    f'<TiffData FirstZ="{z}" PlaneCount="1"><UUID FileName="{name}">'
    f'urn:uuid:{z}</UUID></TiffData>'
    for z, name in enumerate(names)
  )
  return (
    '<OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" '
    'UUID="urn:uuid:0"><Image ID="Image:0"><Pixels ID="Pixels:0" '
    'DimensionOrder="XYZCT" Type="uint8" SizeX="16" SizeY="16" '
    f'SizeZ="{len(names)}" SizeC="1" SizeT="1">{planes}</Pixels></Image></OME>'
  )
