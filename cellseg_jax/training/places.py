"""Where training crops are cut: drawn from their keys, without a pixel read."""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cellseg_jax.config import AugmentationConfig
from cellseg_jax.datasets.pool import Layout


class Place(NamedTuple):
  """Where crops are cut.

  Attributes:
    image: int32 (...), place of the image in the set.
    origin: int32 (..., 2), row and column in it of the crop's first pixel.
  """

  image: jax.Array
  origin: jax.Array


def choose(
  keys: jax.Array, layout: Layout, config: AugmentationConfig, size: int
) -> Place:
  """Draws an image and a place in it for every key.

  Whole numbers and comparisons alone: the same on every device.

  Args:
    keys: JAX random keys (N,).
    layout: The training images.
    config: Which changes, and how strong.
    size: Side of the crops in pixels.

  Returns:
    A `Place` of N. A rolled crop may start anywhere in its image; otherwise it
    starts where it fits.
  """

  def one(key: jax.Array) -> Place:
    which, moves, _ = jax.random.split(key, 3)
    drawn = 1 - jax.random.uniform(which)  # Above 0, at most 1.
    index = jnp.searchsorted(layout.bounds, drawn)
    middle = None
    if config.centred:
      index, middle = _choose_cell(which, index, layout, config)
    extent = layout.sizes[index]
    room = extent if config.roll else jnp.maximum(extent - size + 1, 1)
    origin_key = jax.random.split(moves, 5)[0]
    origin = jax.random.randint(origin_key, (2,), 0, room)
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
