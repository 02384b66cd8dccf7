"""The maps of a large image, tile by tile, in bounded memory."""

from collections.abc import Callable, Mapping
import functools
import itertools
from typing import Any, NamedTuple

import jax
import numpy as np

from cellseg_jax.config import map_names
from cellseg_jax.images import normalize
from cellseg_jax.inference import tiling
from cellseg_jax.inference.blocks import Array, Box, cut, Each, in_turn
from cellseg_jax.inference.predict import mean_over_members, Model
from cellseg_jax.model import fcn

_BLOCK = 2048  # Side of the blocks that the image is surveyed in.


class Turn(NamedTuple):
  """One of the eight ways to look at an image: transpose it, then flip.

  Attributes:
    transpose: Whether rows become columns.
    rows: 1, or -1 to read the rows backwards.
    columns: 1, or -1 to read the columns backwards.
  """

  transpose: bool = False
  rows: int = 1
  columns: int = 1

  def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns height and width of a turned image."""
    return (shape[1], shape[0]) if self.transpose else (shape[0], shape[1])

  def box(self, box: Box, shape: tuple[int, ...]) -> Box:
    """Returns where in the image a block of the turned image lies."""
    height, width = self.size(shape)
    top, bottom, left, right = box
    if self.rows < 0:
      top, bottom = height - bottom, height - top
    if self.columns < 0:
      left, right = width - right, width - left
    if self.transpose:
      top, bottom, left, right = left, right, top, bottom
    return Box(top, bottom, left, right)

  def forth(self, block: np.ndarray) -> np.ndarray:
    """Turns a block, (h, w, C)."""
    block = block.swapaxes(0, 1) if self.transpose else block
    return block[:: self.rows, :: self.columns]

  def back(self, block: np.ndarray) -> np.ndarray:
    """Undoes `forth`."""
    block = block[:: self.rows, :: self.columns]
    return block.swapaxes(0, 1) if self.transpose else block


ALL_TURNS = tuple(
  Turn(*turn) for turn in itertools.product((False, True), (1, -1), (1, -1))
)


Limits = tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]


class Tile(NamedTuple):
  """A part of an image that the network looks at.

  Attributes:
    turn: How it looks at it.
    limits: Lowest intensity and range of the whole image, float32 (C,).
    rows: The tile along the rows of the turned image.
    columns: The tile along its columns.
    place: Where in the image the tile's window lies.
  """

  turn: Turn
  limits: Limits
  rows: tiling.Span
  columns: tiling.Span
  place: Box


def predict_large(
  model: Model,
  image: Any,
  maps: Mapping[str, Array],
  *,
  tile: int,
  overlap: int,
  progress: Callable[[float], None],
) -> None:
  """Computes maps of an image tile by tile.

  Where neighbouring tiles overlap, their maps are blended.

  Args:
    model: As `load_model` returns.
    image: As for `segment_large`.
    maps: Where to put the maps that are wanted, by name; float32 (H, W), zeros
      at first.
    tile: As for `segment_large`.
    overlap: As for `segment_large`.
    progress: Called with the share that is done, 0 to 1, after every tile.

  Raises:
    ValueError: The image holds NaN or infinite pixels.
  """
  names = map_names(model.config.model)
  tiles = tiles_of(model, image, tile=tile, overlap=overlap)
  # While one tile is computed, the next is read and the last one written.
  windows = in_turn(functools.partial(read_tile, image), tiles, 1)
  compute = functools.partial(_compute_next, model)
  shares = in_turn(compute, zip(tiles, windows, strict=True), 1)
  for done, (one, share) in enumerate(zip(tiles, shares, strict=True), 1):
    for name, whole in maps.items():
      whole[one.place.slices] += share[..., names.index(name)]
    progress(done / len(tiles))


def tiles_of(
  model: Model, image: Any, *, tile: int, overlap: int, each: Each = map
) -> list[Tile]:
  """Lays tiles over an image, all of which is read for its intensities.

  Args:
    model: As `load_model` returns.
    image: As for `segment_large`.
    tile: As for `segment_large`.
    overlap: As for `segment_large`.
    each: Reads the blocks.

  Raises:
    ValueError: The image holds NaN or infinite pixels.
  """
  tiles = []
  for turn in _turns(model):
    low, span = intensity_range(model, image, turn, each)
    limits = np.asarray(low), np.asarray(span)
    size = turn.size(image.shape)
    small = normalize.resampled_shape(size, model.config.data.resample)
    rows, columns = (
      list(
        tiling.spans(*sides, tiling.tile_size(*sides, tile, overlap), overlap)
      )
      for sides in zip(size, small, strict=True)
    )
    for spans in itertools.product(rows, columns):
      place = turn.box(_window(*spans), image.shape)
      tiles.append(Tile(turn, limits, *spans, place))
  return tiles


def read_tile(image: Any, tile: Tile) -> np.ndarray:
  """Reads a tile's window: turned raw intensities, float32 (N, O, C)."""
  return tile.turn.forth(read_block(image, tile.place))


def compute_tile(model: Model, tile: Tile, window: np.ndarray) -> np.ndarray:
  """Computes what a tile adds to the maps where its window lies.

  Args:
    model: As `load_model` returns.
    tile: The tile.
    window: As `read_tile` returns.

  Returns:
    float32 (h, w, M).
  """
  rows, columns = tile.rows[1:], tile.columns[1:]
  maps = np.asarray(_tile_maps(model, window, tile.limits, rows, columns))
  return tile.turn.back(maps) / len(_turns(model))


def _compute_next(model: Model, read: tuple[Tile, np.ndarray]) -> np.ndarray:
  return compute_tile(model, *read)


def _turns(model: Model) -> tuple[Turn, ...]:
  return ALL_TURNS if model.config.decoding.turns else (Turn(),)


def _window(rows: tiling.Span, columns: tiling.Span) -> Box:
  return Box(
    rows.first,
    rows.first + rows.blend.size,
    columns.first,
    columns.first + columns.blend.size,
  )


def read_block(image: Any, box: Box) -> np.ndarray:
  """Reads a block of raw intensities, float32 (h, w, C).

  Raises:
    ValueError: It holds NaN or infinity; the message names the place.
  """
  with np.errstate(over='ignore'):
    block = np.asarray(image[box.slices]).astype(np.float32)
  block = block.reshape(*box.shape, -1)
  if not np.isfinite(block).all():
    y, x = np.argwhere(~np.isfinite(block).all(-1))[0]
    raise ValueError(
      'the image holds NaN or infinite pixels, as at row '
      f'{box.top + y}, column {box.left + x}; replace them'
    )
  return block


def intensity_range(
  model: Model, image: Any, turn: Turn, each: Each = map
) -> Limits:
  """Finds what `normalize.intensity_range` finds, reading block by block.

  So that normalisation is that of the whole image, in every tile. All of the
  image is read, and what cannot be segmented refused before hours are spent.

  Args:
    model: As `load_model` returns.
    image: As for `segment_large`.
    turn: How to look at it.
    each: Reads the blocks.

  Raises:
    ValueError: The image holds NaN or infinite pixels.
  """
  config = model.config.intensity
  height, width = turn.size(image.shape)
  stride = normalize.sample_stride((height, width), config)
  rows, columns = -(-height // stride), -(-width // stride)
  following = -(-(width - 1) // stride)
  grids = np.zeros((2, rows, columns, model.config.data.channels), np.float32)
  sample = functools.partial(_sample, image, turn, stride)
  boxes = cut((height, width), (_BLOCK, _BLOCK))
  for box, parts in zip(boxes, each(sample, boxes), strict=True):
    top, left = -(-box.top // stride), -(-box.left // stride)
    for grid, part in zip(grids, parts, strict=True):
      grid[top:, left:][: part.shape[0], : part.shape[1]] = part
  return _range_of_sample(grids[0], grids[1, :, :following], config)


def _sample(
  image: Any, turn: Turn, stride: int, box: Box
) -> tuple[np.ndarray, np.ndarray]:
  """Returns every `stride`-th pixel of a block, and those that follow them."""
  _, width = turn.size(image.shape)
  # With the pixel that follows the last one.
  right = min(box.right + 1, width)
  place = turn.box(box._replace(right=right), image.shape)
  block = turn.forth(read_block(image, place))
  y, x = -box.top % stride, -box.left % stride
  sampled = block[y::stride, x : box.shape[1] : stride]
  return sampled.copy(), block[y::stride, x + 1 :: stride].copy()


_range_of_sample = functools.partial(jax.jit, static_argnums=2)(
  normalize.range_of_sample
)


@jax.jit
def _tile_maps(
  model: Model,
  window: jax.Array,
  limits: Limits,
  rows: tuple[tiling.Taps, tiling.Taps, jax.Array],
  columns: tuple[tiling.Taps, tiling.Taps, jax.Array],
) -> jax.Array:
  """Computes a tile's share of the maps.

  Args:
    model: As `load_model` returns.
    window: Raw intensities, float32 (N, O, C).
    limits: Lowest intensity and range, float32 (C,).
    rows: `enter`, `leave` and `blend` of the tile's rows.
    columns: Those of its columns.

  Returns:
    float32 (N, O, M).
  """
  low, span = limits
  inputs = _resample((window - low) / span, rows[0], columns[0])

  def maps_of(variables: fcn.Variables) -> jax.Array:
    logits = fcn.apply(model.config.model, variables, inputs[None])[0]
    return jax.nn.sigmoid(_resample(logits, rows[1], columns[1]))

  share = rows[2][:, None] * columns[2]
  return mean_over_members(model, maps_of) * share[..., None]


def _resample(
  image: jax.Array, rows: tiling.Taps, columns: tiling.Taps
) -> jax.Array:
  """Resamples rows and columns of an image, (h, w, C)."""
  image = sum(
    image[pixels] * weight[:, None, None]
    for pixels, weight in zip(rows.pixels, rows.weight, strict=True)
  )
  return sum(
    image[:, pixels] * weight[:, None]
    for pixels, weight in zip(columns.pixels, columns.weight, strict=True)
  )
