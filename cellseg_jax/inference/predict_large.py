"""Predicts the maps of a large image tile by tile, in bounded memory.

Every tile is normalised with the intensity range of the whole image and blended
with its neighbours where they overlap.
"""

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

_BLOCK = 2048  # Side of the blocks read to find the intensity range.


class Turn(NamedTuple):
  """One of the eight orientations of an image: transpose it, then flip.

  Attributes:
    transpose: Whether to swap rows and columns.
    rows: 1, or -1 to reverse the order of the rows.
    columns: 1, or -1 to reverse the order of the columns.
  """

  transpose: bool = False
  rows: int = 1
  columns: int = 1

  def size(self, shape: tuple[int, ...]) -> tuple[int, int]:
    """Returns height and width of the turned image."""
    return (shape[1], shape[0]) if self.transpose else (shape[0], shape[1])

  def box(self, box: Box, shape: tuple[int, ...]) -> Box:
    """Maps a block of the turned image to its box in the original image."""
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
    """Turns a block of the original image, (h, w, C)."""
    block = block.swapaxes(0, 1) if self.transpose else block
    return block[:: self.rows, :: self.columns]

  def back(self, block: np.ndarray) -> np.ndarray:
    """Inverts `forth`."""
    block = block[:: self.rows, :: self.columns]
    return block.swapaxes(0, 1) if self.transpose else block


ALL_TURNS = tuple(
  Turn(*turn) for turn in itertools.product((False, True), (1, -1), (1, -1))
)


Limits = tuple[jax.Array | np.ndarray, jax.Array | np.ndarray]


class Tile(NamedTuple):
  """A part of an image that the network processes at once.

  Attributes:
    turn: Orientation in which the network sees the image.
    limits: Lowest intensity and range of the whole image, float32 (C,) each.
    rows: The tile along the rows of the turned image.
    columns: The tile along the columns of the turned image.
    place: Box of the tile's window in the original image.
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
  """Computes maps of an image tile by tile and blends them where tiles overlap.

  Args:
    model: The model, as `load_model` returns it.
    image: Raw intensities, (H, W) or (H, W, C), readable by slices.
    maps: Arrays to add the wanted maps to, by name; float32 (H, W), initially
      zero.
    tile: Most pixels along a side of a tile of the network's input.
    overlap: Pixels of the network's input that neighbouring tiles share; a
      multiple of the network's stride.
    progress: Called after every tile with the completed share, 0 to 1.

  Raises:
    ValueError: The image holds NaN or infinite pixels.
  """
  names = map_names(model.config.model)
  tiles = tiles_of(model, image, tile=tile, overlap=overlap)
  # While one tile is computed, the next is read and the previous one written.
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
  """Divides an image into tiles, after reading it for its intensity range.

  Args:
    model: The model, as `load_model` returns it.
    image: Raw intensities, (H, W) or (H, W, C), readable by slices.
    tile: Most pixels along a side of a tile of the network's input.
    overlap: Pixels of the network's input that neighbouring tiles share; a
      multiple of the network's stride.
    each: Reads the blocks of the image.

  Returns:
    The tiles of every turn that the config asks for.

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
  """Reads a tile's window as turned raw intensities, float32 (N, O, C)."""
  return tile.turn.forth(read_block(image, tile.place))


def compute_tile(model: Model, tile: Tile, window: np.ndarray) -> np.ndarray:
  """Computes a tile's contribution to the maps in its window.

  Args:
    model: The model, as `load_model` returns it.
    tile: The tile.
    window: The turned raw intensities, as `read_tile` returns them.

  Returns:
    What to add to each of the M maps at `tile.place`, float32 (h, w, M).
  """
  rows, columns = tile.rows[1:], tile.columns[1:]
  maps = np.asarray(_tile_maps(model, window, tile.limits, rows, columns))
  return tile.turn.back(maps) / len(_turns(model))


def _compute_next(model: Model, read: tuple[Tile, np.ndarray]) -> np.ndarray:
  return compute_tile(model, *read)


def _turns(model: Model) -> tuple[Turn, ...]:
  """Returns the orientations to average over."""
  return ALL_TURNS if model.config.decoding.turns else (Turn(),)


def _window(rows: tiling.Span, columns: tiling.Span) -> Box:
  """Returns the box of a tile's window in the turned image."""
  return Box(
    rows.first,
    rows.first + rows.blend.size,
    columns.first,
    columns.first + columns.blend.size,
  )


def read_block(image: Any, box: Box) -> np.ndarray:
  """Reads a block of raw intensities, float32 (h, w, C).

  Raises:
    ValueError: The block holds NaN or infinity; the message names the first
      position.
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
  """Finds the intensity range of the whole image, reading it block by block.

  The range is that of `normalize.intensity_range`, so every tile is normalised
  like the whole image. Reading all pixels first also rejects an image that
  cannot be segmented before hours are spent on it.

  Args:
    model: The model, as `load_model` returns it.
    image: Raw intensities, (H, W) or (H, W, C), readable by slices.
    turn: Orientation of the image.
    each: Reads the blocks.

  Returns:
    Lowest intensity and range, float32 (C,) each.

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
  """Samples every `stride`-th row and column of a block of the turned image.

  Returns:
    The sampled pixels, and the pixels that follow them in their rows, float32
    (h, w, C) each.
  """
  _, width = turn.size(image.shape)
  # One column more, for the pixel that follows the last sampled one.
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
  """Computes a tile's maps, weighted by its share in each pixel.

  Args:
    model: The model, as `load_model` returns it.
    window: Raw intensities, float32 (N, O, C).
    limits: Lowest intensity and range, float32 (C,) each.
    rows: `enter`, `leave` and `blend` of the tile's rows.
    columns: `enter`, `leave` and `blend` of the tile's columns.

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
  """Resamples an image, (h, w, C), along its rows and columns."""
  image = sum(
    image[pixels] * weight[:, None, None]
    for pixels, weight in zip(rows.pixels, rows.weight, strict=True)
  )
  return sum(
    image[:, pixels] * weight[:, None]
    for pixels, weight in zip(columns.pixels, columns.weight, strict=True)
  )
