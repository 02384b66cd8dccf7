"""A large file, whose blocks are tasks of a cluster.

What is found in a block lies in a folder within that of the outputs, which all
workers see; they send back a few numbers for every piece of a cell. These are
joined by the same code as in one process, so that labels are the same.
"""

from collections.abc import Iterator, Sequence
import contextlib
import functools
import itertools
import pathlib
import shutil
from typing import Any

import numpy as np

from cellseg_jax.cluster.tasks import Cluster
from cellseg_jax.cluster.work import FileFrame, model_of, Work
from cellseg_jax.images.atomic import replacing
from cellseg_jax.images.inside import inside
from cellseg_jax.images.targets import map_names
from cellseg_jax.inference import files, outputs
from cellseg_jax.inference.batch import Stages
from cellseg_jax.inference.blocks import Array, Box, Readable
from cellseg_jax.inference.filters import filter_blocks
from cellseg_jax.inference.large import (
  BLOCK,
  check_image,
  decode_large,
  maps_read,
  OVERLAP,
  TILE,
)
from cellseg_jax.inference.predict import Model
from cellseg_jax.inference.predict_large import (
  compute_tile,
  read_tile,
  Tile,
  tiles_of,
)

_SCRATCH = '.scratch'


@contextlib.contextmanager
def stages(cluster: Cluster, work: Work, name: str) -> Iterator[Stages]:
  """Gives what is done with a large file on a cluster.

  Args:
    cluster: Where.
    work: See `Work`.
    name: What the file's outputs are called; so is its folder of scratch, that
      of a run that was killed is removed.
  """
  folder = inside(work.out.resolve(), pathlib.Path(_SCRATCH, name))
  shutil.rmtree(folder, ignore_errors=True)
  folder.mkdir(parents=True)
  try:
    yield Stages(
      _load,
      functools.partial(_find, cluster, work, folder),
      functools.partial(outputs.write, each=cluster.each),
    )
  finally:
    shutil.rmtree(folder, ignore_errors=True)
    with contextlib.suppress(OSError):
      folder.parent.rmdir()  # Unless there are others.


def _load(
  path: pathlib.Path, options: files.Options, channels: int
) -> files.Loaded:
  """Opens a file as `files.load`; its pixels are read by whoever needs them."""
  with contextlib.ExitStack() as stack:
    frames = stack.enter_context(files.opened(path, options, channels))
    pixels = [
      FileFrame.of(path, frame, number, options, channels)
      for number, frame in enumerate(frames)
    ]
    return files.Loaded(path, frames, pixels, stack.pop_all())


def _find(
  cluster: Cluster,
  work: Work,
  folder: pathlib.Path,
  model: Model,
  loaded: files.Loaded,
  options: files.Options,
) -> list[files.Found]:
  """Finds the cells of every frame, as `files.find`."""
  shape = (loaded.frames[0].shape[0], loaded.frames[0].shape[1])
  files.check_extras(shape, options)
  model = files.fitted(model, loaded.frames[0].pixel_size, options)
  found = []
  for number, image in enumerate(loaded.pixels):
    check_image(image.shape, model.config.data.channels)
    store = _Store(folder / f'{number}', shape)
    maps = _predict(cluster, work, model, image, store.folder)
    labels, confidence = decode_large(
      maps,
      model.config.decoding,
      model.choices,
      store.new_image(np.int32),
      block=BLOCK,
      new_image=store.new_image,
      each=cluster.each,
    )
    confidence = filter_blocks(labels, confidence, options.filters)
    found.append(files.Found(labels, confidence, maps['foreground']))
  return found


class _Store:
  """Makes images in a folder, a file a block, so that all may write to them."""

  def __init__(self, folder: pathlib.Path, shape: tuple[int, int]) -> None:
    self.folder, self._shape = folder, shape
    self._number = itertools.count()
    folder.mkdir()

  def new_image(self, kind: type) -> Array:
    """Makes an image of zeros, (H, W)."""
    import zarr  # Late: it takes long to import.

    image: Any = zarr.create_array(
      self.folder / f'{next(self._number)}.zarr',
      shape=self._shape,
      chunks=(min(BLOCK, self._shape[0]), min(BLOCK, self._shape[1])),
      dtype=kind,
    )
    return image


def _predict(
  cluster: Cluster,
  work: Work,
  model: Model,
  image: FileFrame,
  folder: pathlib.Path,
) -> dict[str, Readable]:
  """Computes the maps that are read of a frame, as `predict_large`."""
  tiles = tiles_of(model, image, tile=TILE, overlap=OVERLAP, each=cluster.each)
  names = maps_read(model)
  compute = functools.partial(_keep_share, work, image, tiles, names, folder)
  for _ in cluster.each(compute, range(len(tiles))):
    pass
  places = [tile.place for tile in tiles]
  shape = (image.shape[0], image.shape[1])
  return {
    name: Mosaic(folder, number, places, shape)
    for number, name in enumerate(names)
  }


def _keep_share(
  work: Work,
  image: FileFrame,
  tiles: Sequence[Tile],
  names: Sequence[str],
  folder: pathlib.Path,
  number: int,
) -> None:
  """Runs in a worker: keeps what a tile adds to the maps, float32 (M, h, w)."""
  model = files.fitted(model_of(work), image.pixel_size, work.options)
  tile = tiles[number]
  share = compute_tile(model, tile, read_tile(image, tile))
  order = [map_names(model.config.model).index(name) for name in names]
  with replacing(_share_path(folder, number)) as partial:
    np.save(partial, np.ascontiguousarray(np.moveaxis(share[..., order], 2, 0)))


def _share_path(folder: pathlib.Path, number: int) -> pathlib.Path:
  return folder / f'{number}.npy'


class Mosaic:
  """A map of an image, in a file a tile, added up where it is read.

  Workers that wrote to one file where tiles overlap would be in each other's
  way, and what one that died had added could not be told.

  Attributes:
    shape: Height and width.
  """

  def __init__(
    self,
    folder: pathlib.Path,
    number: int,
    places: Sequence[Box],
    shape: tuple[int, int],
  ) -> None:
    """Sees shares as a map.

    Args:
      folder: Where they are.
      number: Which of the maps in them.
      places: Where in the image each lies.
      shape: Height and width of the image.
    """
    self.shape = shape
    self._folder, self._number = folder, number
    self._places = np.array(places).reshape(-1, 4)

  def __getitem__(self, slices: Any) -> np.ndarray:
    rows, columns = (
      range(size)[part] for size, part in zip(self.shape, slices, strict=True)
    )
    total = np.zeros((len(rows), len(columns)), np.float32)
    top, bottom, left, right = self._places.T
    near = (top < rows.stop) & (bottom > rows.start)
    near &= (left < columns.stop) & (right > columns.start)
    for number in np.flatnonzero(
      near
    ).tolist():  # In order, as sums depend on it.
      place = Box(*self._places[number])
      shared = Box(
        max(place.top, rows.start),
        min(place.bottom, rows.stop),
        max(place.left, columns.start),
        min(place.right, columns.stop),
      )
      path = _share_path(self._folder, number)
      share = np.load(path, mmap_mode='r', allow_pickle=False)[self._number]
      total[_within(shared, rows.start, columns.start)] += share[
        _within(shared, place.top, place.left)
      ]
    return total


def _within(box: Box, top: int, left: int) -> tuple[slice, slice]:
  """Returns where a box lies in a block that begins at a row and a column."""
  return (
    slice(box.top - top, box.bottom - top),
    slice(box.left - left, box.right - left),
  )
