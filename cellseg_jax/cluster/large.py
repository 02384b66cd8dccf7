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

import numpy as np

from cellseg_jax.cluster.mosaic import Mosaic
from cellseg_jax.cluster.tasks import Cluster
from cellseg_jax.cluster.work import FileFrame, model_of, Work
from cellseg_jax.config import map_names
from cellseg_jax.inference import files, outputs
from cellseg_jax.inference.batch import Stages
from cellseg_jax.inference.blocks import cut, Readable
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
from cellseg_jax.inside import inside

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
  blocks = cut(shape, (BLOCK, BLOCK))
  number = itertools.count()

  def new_image(kind: type) -> Mosaic:
    return Mosaic.new(folder / f'{next(number)}', blocks, shape, kind)

  found = []
  for image in loaded.pixels:
    check_image(image.shape, model.config.data.channels)
    maps = _predict(cluster, work, model, image, folder / f'{next(number)}')
    labels, confidence = decode_large(
      maps,
      model.config.decoding,
      model.choices,
      new_image(np.int32),
      block=BLOCK,
      new_image=new_image,
      each=cluster.each,
    )
    confidence = filter_blocks(labels, confidence, options.filters, block=BLOCK)
    found.append(files.Found(labels, confidence, maps['foreground']))
  return found


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
  places = [tile.place for tile in tiles]
  shape = (image.shape[0], image.shape[1])
  shares = Mosaic.new(folder, places, shape, np.float32)
  compute = functools.partial(_keep_share, work, image, tiles, names, shares)
  for _ in cluster.each(compute, range(len(tiles))):
    pass
  return {name: shares.plane(number) for number, name in enumerate(names)}


def _keep_share(
  work: Work,
  image: FileFrame,
  tiles: Sequence[Tile],
  names: Sequence[str],
  shares: Mosaic,
  number: int,
) -> None:
  """Runs in a worker: keeps what a tile adds to the maps."""
  model = files.fitted(model_of(work), image.pixel_size, work.options)
  share = compute_tile(model, tiles[number], read_tile(image, tiles[number]))
  order = [map_names(model.config.model).index(name) for name in names]
  shares.keep(number, np.moveaxis(share[..., order], 2, 0))
