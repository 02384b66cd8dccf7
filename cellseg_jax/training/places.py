"""Draws where training crops are cut, from their random keys.

No pixels are needed, so that streaming can draw the places on the host before
it reads the images.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from cellseg_jax.config import AugmentationConfig
from cellseg_jax.datasets.pool import Layout


class CropKeys(NamedTuple):
  """JAX random keys (...), one for each random choice of a crop.

  Attributes:
    image: Which image the crop is cut from.
    cell: Whether the crop is centred on a cell, and on which one.
    origin: Where the crop is cut, if it is not centred on a cell.
    flip: Along which axes the crop is mirrored.
    angle: By which angle the crop is rotated.
    scale: By which factor the crop is magnified.
    elastic: How the crop is deformed.
    intensity: How the intensities are changed.
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
  """Splits N keys, one per crop, into `CropKeys` of shape (N,)."""
  return jax.vmap(_split)(keys)


def _split(key: jax.Array) -> CropKeys:
  image, moves, intensity, cell = jax.random.split(key, 4)
  origin, flip, angle, scale, elastic = jax.random.split(moves, 5)
  return CropKeys(image, cell, origin, flip, angle, scale, elastic, intensity)


class Place(NamedTuple):
  """The places that crops are cut from.

  Attributes:
    image: Index of the image among the training images, int32 (...).
    origin: Row and column of the crop's first pixel in that image, int32
      (..., 2).
  """

  image: jax.Array
  origin: jax.Array


def choose(
  keys: CropKeys, layout: Layout, config: AugmentationConfig, size: int
) -> Place:
  """Draws an image and a place in it for every crop.

  Only exact operations (integer arithmetic and comparisons) are used, so the
  places are the same on every kind of device.

  Args:
    keys: Keys of N crops.
    layout: Layout of the training images.
    config: Which augmentations to apply; `roll` and `centred` are used.
    size: Side of the crops in pixels.

  Returns:
    A `Place` of N crops. With `roll`, a crop may start anywhere in its image;
    otherwise only where it fits into the image.
  """

  def one(own: CropKeys) -> Place:
    drawn = 1 - jax.random.uniform(own.image)  # In (0, 1].
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
  """Draws a cell to centre the crop on, or none.

  Args:
    key: A JAX random key.
    index: The image drawn for crops that are not centred on a cell, int32 ().
    layout: Layout of the training images.
    config: Gives the probability `centred`.

  Returns:
    Index of the image, int32 (), and row and column of the cell, int32 (2,); -1
    and -1 if the crop is not centred on a cell.
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
