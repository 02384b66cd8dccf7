"""Segments one large file with its tiles and blocks as cluster tasks.

Workers store per-block results in a scratch folder inside the output folder,
which all of them can access, and send back only a few numbers per cell piece.
The client joins the pieces with the same code as a single process does, so the
labels are identical.
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
  """Yields the stages that process a large file on a cluster.

  Args:
    cluster: The cluster that runs the tasks.
    work: What all tasks of the run have in common.
    name: Base name of the file's outputs, also used for its scratch folder. A
      scratch folder left behind by a killed run is removed first.

  Yields:
    The stages, for `batch.outcomes`; scratch is deleted when the block ends.
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
      folder.parent.rmdir()  # Fails while other files have scratch there.


def _load(
  path: pathlib.Path, options: files.Options, channels: int
) -> files.Loaded:
  """Opens a file as `files.load` does, but leaves reading pixels to workers."""
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
  """Finds the cells of every frame as `files.find` does, on the cluster."""
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
  """Predicts the maps of a frame that the decoder and the confidence read.

  Args:
    cluster: The cluster that runs one task per tile.
    work: What all tasks of the run have in common.
    model: The model, fitted to the scale of the frame.
    image: The frame.
    folder: Folder to create for the tiles' contributions.

  Returns:
    The maps by name, float32 (H, W), 0 to 1, blended like those of
    `predict_large`.
  """
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
  """Computes and stores a tile's contribution to the maps; runs in a worker.

  Args:
    work: What all tasks of the run have in common.
    image: The frame.
    tiles: All tiles of the frame.
    names: The maps to store, by name.
    shares: Where the contributions are stored.
    number: Index of the tile.
  """
  model = files.fitted(model_of(work), image.pixel_size, work.options)
  share = compute_tile(model, tiles[number], read_tile(image, tiles[number]))
  order = [map_names(model.config.model).index(name) for name in names]
  shares.keep(number, np.moveaxis(share[..., order], 2, 0))
