"""Where training crops are cut: drawn from their keys, without a pixel read."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cellseg_jax.config import AugmentationConfig
from cellseg_jax.datasets.pool import Layout


class CropKeys(NamedTuple):
  """A key for each random choice of a crop; JAX random keys (...).

  Attributes:
    image: Which image it is cut from.
    cell: Whether it is centred on a cell, and on which.
    origin: Where it is cut, if not around a cell.
    flip: Along which axes it is mirrored.
    angle: By how much it is turned.
    scale: By how much it is magnified.
    elastic: How it is deformed.
    intensity: How its intensities change.
  """

  image: jax.Array
  cell: jax.Array
  origin: jax.Array
  flip: jax.Array
  angle: jax.Array
  scale: jax.Array
  elastic: jax.Array
  intensity: jax.Array


def crop_keys(keys: jax.Array) -> CropKeys:
  """Splits the keys of crops, (N,), into `CropKeys` of N."""
  return jax.vmap(_split)(keys)


def _split(key: jax.Array) -> CropKeys:
  image, moves, intensity, cell = jax.random.split(key, 4)
  origin, flip, angle, scale, elastic = jax.random.split(moves, 5)
  return CropKeys(image, cell, origin, flip, angle, scale, elastic, intensity)


class Place(NamedTuple):
  """Where crops are cut.

  Attributes:
    image: int32 (...), place of the image in the set.
    origin: int32 (..., 2), row and column in it of the crop's first pixel.
  """

  image: jax.Array
  origin: jax.Array


def choose(
  keys: CropKeys, layout: Layout, config: AugmentationConfig, size: int
) -> Place:
  """Draws an image and a place in it for every crop.

  Whole numbers and comparisons alone: the same on every device.

  Args:
    keys: Those of N crops.
    layout: The training images.
    config: Which changes, and how strong.
    size: Side of the crops in pixels.

  Returns:
    A `Place` of N. A rolled crop may start anywhere in its image; otherwise it
    starts where it fits.
  """

  def one(own: CropKeys) -> Place:
    drawn = 1 - jax.random.uniform(own.image)  # Above 0, at most 1.
    index = jnp.searchsorted(layout.bounds, drawn)
    middle = None
    if config.centred:
      index, middle = _choose_cell(own.cell, index, layout, config)
    extent = layout.sizes[index]
    room = extent if config.roll else jnp.maximum(extent - size + 1, 1)
    origin = jax.random.randint(own.origin, (2,), 0, room)
    if middle is not None:
      around = middle - size // 2
      if not config.roll:
        around = jnp.clip(around, 0, room - 1)
      origin = jnp.where(middle >= 0, around, origin)
    return Place(index, origin)

  return jax.vmap(one)(keys)


def _choose_cell(
  key: jax.Array, index: jax.Array, layout: Layout, config: AugmentationConfig
) -> tuple[jax.Array, jax.Array]:
  """Draws a cell to centre the crop on, or leaves the image as drawn.

  Returns:
    The image, int32 (), and row and column, int32 (2,); -1 for no cell.
  """
  chance_key, cell_key = jax.random.split(key)
  count = (layout.cells[:, 0] >= 0).sum()
  number = jax.random.randint(cell_key, (), 0, count)
  cell = layout.cells[number]
  centred = jax.random.uniform(chance_key) < config.centred
  return (
    jnp.where(centred, cell[0], index),
    jnp.where(centred, cell[1:], -1),
  )
