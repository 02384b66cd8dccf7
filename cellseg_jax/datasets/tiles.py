"""Stores prepared training images on disk in tiles, for streaming.

The images are prepared once, as for a `Pool` (normalised, resampled, with
targets and weights), and cached beside the prepared copies of data sets. Tiles
make it quick to read any part of an image.
"""

from collections.abc import Iterator, Sequence
import hashlib
import pathlib
from typing import NamedTuple

import numpy as np
import tensorflow_datasets as tfds

from cellseg_jax.config import Config
from cellseg_jax.datasets import pool as pool_lib
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import Layout
from cellseg_jax.datasets.prepared import cache_folder, make_once

SIDE = 128  # Side of a tile in pixels.
SHARD = 4096  # Tiles per file.
VERSION = tfds.core.Version('1.0.0')


class Tiles:
  """Reads tiled training images from a folder.

  Attributes:
    layout: Layout of the images, for drawing crops, as host arrays.
    depth: Values per pixel: C channels, M target maps and the weight.
  """

  def __init__(self, folder: pathlib.Path):
    """Opens a folder of tiles.

    Args:
      folder: A folder that `write_tiles` wrote.
    """
    with np.load(folder / 'layout.npz') as layout:
      self.layout = Layout(**layout)
    builder = tfds.builder_from_directory(folder)
    self._source = builder.as_data_source(split='train')
    self.depth = builder.info.features['pixels'].shape[-1]
    grids = -(-self.layout.sizes // SIDE)
    self._columns = grids[:, 1]
    self._first = np.insert(grids.prod(1).cumsum(), 0, 0)

  def read(self, image: int, first: np.ndarray, into: np.ndarray) -> None:
    """Reads a window of an image, wrapped around at the image's borders.

    Args:
      image: Index of the image.
      first: First row and column of the window, int (2,).
      into: Array to fill with the window's pixels, as in `Pool.pixels`, float32
        (H, W, C + M + 1).
    """
    rows, columns = (
      list(_runs(int(start), length, int(extent)))
      for start, length, extent in zip(
        first, into.shape, self.layout.sizes[image], strict=False
      )
    )
    begin, across = int(self._first[image]), int(self._columns[image])
    pieces = [
      (begin + row.tile * across + column.tile, row, column)
      for row in rows
      for column in columns
    ]
    numbers = sorted({number for number, _, _ in pieces})
    records = self._source.__getitems__(numbers)
    tiles = dict(zip(numbers, records, strict=True))
    for number, row, column in pieces:
      tile = tiles[number]['pixels']
      into[row.to, column.to] = tile[row.inside, column.inside]


class _Run(NamedTuple):
  """A stretch of a window along one axis that lies in one tile."""

  tile: int  # Index of the tile along the axis.
  inside: slice  # Pixels of the tile.
  to: slice  # Pixels of the window.


def _runs(start: int, length: int, extent: int) -> Iterator[_Run]:
  """Divides a stretch of an axis that wraps around at `extent` among tiles."""
  done = 0
  while done < length:
    tile, at = divmod((start + done) % extent, SIDE)
    count = min(SIDE - at, extent - tile * SIDE - at, length - done)
    yield _Run(tile, slice(at, at + count), slice(done, done + count))
    done += count


def open_tiles(
  images: Sequence[LabelledImage], config: Config, digest: str
) -> Tiles:
  """Opens the tiles of a run's training images, and writes them if absent.

  Args:
    images: The training images.
    config: The resolved configuration.
    digest: Digest of all files behind the images.

  Raises:
    ConfigError: The cache folder cannot be created or written to.
  """
  data = config.data
  parts = (
    *(str(VERSION), SIDE, digest),
    *(data.train_split, data.held_out, data.validation_split),
    data.train_images,
    *(data.channels, data.resample, config.model.maps),
    *(config.intensity, config.targets),
  )
  name = hashlib.sha256(repr(parts).encode()).hexdigest()[:32]
  folder = cache_folder(data) / f'tiles-{name}'
  make_once(folder, lambda made: write_tiles(images, config, made))
  return Tiles(folder)


def write_tiles(
  images: Sequence[LabelledImage], config: Config, folder: pathlib.Path
) -> None:
  """Prepares images one after another and writes their tiles.

  Args:
    images: The training images.
    config: Normalisation, resampling, the network's maps and their targets.
    folder: The folder to create and write to.
  """
  folder.mkdir()
  shape = (SIDE, SIDE, pool_lib.depth(config))
  # Not 'zlib', since array_record compresses anyway.
  pixels = tfds.features.Tensor(shape=shape, dtype=np.float32, encoding='bytes')
  info = tfds.core.DatasetInfo(
    builder=tfds.core.dataset_info.DatasetIdentity(
      name='tiles', version=VERSION, data_dir=folder, module_name=__name__
    ),
    features=tfds.features.FeaturesDict({'pixels': pixels}),
  )
  writer = tfds.core.SequentialWriter(info, SHARD, file_format='array_record')
  writer.initialize_splits(['train'])
  sizes, cells = [], []
  for image in images:
    pixels = pool_lib.prepare_image(image, config)
    sizes.append(pixels.shape[:2])
    cells.append(pool_lib.middles(image, np.array(sizes[-1])))
    writer.add_examples({'train': [{'pixels': t} for t in _cut(pixels)]})
  writer.close_all()
  layout = pool_lib.make_layout(np.array(sizes, np.int32), cells)
  np.savez(folder / 'layout.npz', **vars(layout))


def _cut(pixels: np.ndarray) -> Iterator[np.ndarray]:
  """Cuts (H, W, D) into tiles, row by row; padded with zeros at the ends."""
  pad = [(0, -side % SIDE) for side in pixels.shape[:2]]
  padded = np.pad(pixels, [*pad, (0, 0)])
  for row in range(0, padded.shape[0], SIDE):
    for column in range(0, padded.shape[1], SIDE):
      yield np.ascontiguousarray(
        padded[row : row + SIDE, column : column + SIDE]
      )
