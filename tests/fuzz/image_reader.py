"""Bytes as an image file: it is read, or refused by an `ImageFileError`."""

import contextlib

import numpy as np
from PIL import Image
import tifffile
import zarr

from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.formats import read_image, read_labels
from cellseg_jax.images.selection import select, Selection
from cellseg_jax.images.source import open_image
from fuzz.scratch import scratch_folder
from fuzz.take import Take

KINDS = ('.tif', '.png', '.jpg', 'v2', 'v3')
MOST = 2**20

FOLDER = scratch_folder()
_METADATA = {'v2': '.zarray', 'v3': 'zarr.json'}
_CHUNK = {'v2': '0.0', 'v3': 'c/0/0'}


def write(data):
  """Writes the file that some bytes stand for; returns its path.

  The first says of which kind; of Zarr, two give the length of the metadata.
  """
  take = Take(data)
  kind = take.choice(KINDS)
  if kind.startswith('.'):
    path = FOLDER / f'a{kind}'
    path.write_bytes(take.rest())
    return path
  path = FOLDER / f'{kind}.zarr'
  chunk = path / _CHUNK[kind]
  chunk.parent.mkdir(parents=True, exist_ok=True)
  (path / _METADATA[kind]).write_bytes(take.piece(take.number(2**16)))
  chunk.write_bytes(take.rest())
  return path


def one_input(data):
  """Reads what the bytes stand for in every way that there is."""
  path = write(data)
  for axes in (None, 'YX', 'YXS'):
    try:
      with open_image(path, axes, max_pixels=MOST) as source:
        for frame in select(source, Selection(z='max', rgb='mean')):
          frame[:16, :16]
        if np.prod(source.shape, dtype=float) <= MOST:
          source.read()
    except ImageFileError:
      pass
  if path.is_file():
    for read in (read_image, read_labels):
      with contextlib.suppress(ImageFileError):
        read(path, max_pixels=MOST)


def seeds():
  """Files that are in order, small and of many kinds."""
  rng = np.random.default_rng(0)
  image = rng.integers(0, 255, (20, 24), np.uint8)
  path = FOLDER / 'seed.tif'
  for array, options in (
    (image, {}),
    (image.astype('>u2'), {'compression': 'zlib', 'byteorder': '>'}),
    (image.astype('float32'), {'compression': 'zlib', 'predictor': True}),
    (np.stack([image] * 3), {'imagej': True}),
    (np.stack([image] * 3), {'ome': True, 'compression': 'zlib'}),
    (np.dstack([image] * 3), {'photometric': 'rgb', 'compression': 'jpeg'}),
    (image, {'tile': (16, 16), 'compression': 'zlib', 'bigtiff': True}),
    (image > 9, {'compression': 'packbits'}),
  ):
    tifffile.imwrite(path, array, **options)
    yield bytes([0]) + path.read_bytes()
  for kind, mode in ((1, 'RGB'), (1, 'P'), (1, '1'), (1, 'I;16'), (2, 'L')):
    path = FOLDER / f'seed{KINDS[kind]}'
    Image.fromarray(image).convert(mode).save(path)
    yield bytes([kind]) + path.read_bytes()
  for version, codec in (
    (2, 'auto'),
    (2, None),
    (3, 'auto'),
    (3, zarr.codecs.GzipCodec()),
    (3, zarr.codecs.BloscCodec()),
  ):
    folder = FOLDER / 'seed.zarr'
    zarr.create_array(
      folder,
      data=image,
      chunks=(20, 24),
      zarr_format=version,
      compressors=codec,
      overwrite=True,
    )
    kind = f'v{version}'
    metadata = (folder / _METADATA[kind]).read_bytes()
    head = bytes([KINDS.index(kind)]) + len(metadata).to_bytes(2, 'little')
    yield head + metadata + (folder / _CHUNK[kind]).read_bytes()
