"""Post-processing for all decoders in JAX; the counterpart of `cleanup`.

Fills holes, drops specks, numbers cells and grows the rim. Until it is
numbered, a cell is named by the flat index of its first pixel, which gives the
order of the final numbers; background is named H * W (`nowhere` below).
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference.pure import pixels


def nowhere(name: jax.Array) -> jax.Array:
  """Returns the name of background, H * W, int32 ()."""
  return jnp.asarray(name.size, jnp.int32)  # Sizes may be symbolic.


def first_places(inside: jax.Array, root: jax.Array) -> jax.Array:
  """Names every cell by the flat index of its first pixel.

  Args:
    inside: The pixels that belong to cells, bool (H, W).
    root: Flat index of some pixel of each pixel's cell, the same throughout the
      cell, int32 (H, W).

  Returns:
    The names, int32 (H, W).
  """
  own = pixels.places(root.shape).ravel()
  flat = root.ravel()
  outside = jnp.full_like(own, nowhere(root))
  first = pixels.lowest(flat, own, outside)
  return jnp.where(inside, pixels.at(first, root), nowhere(root))


def clean(name: jax.Array, config: DecodingConfig) -> jax.Array:
  """Fills holes and drops specks, like `cleanup.clean`.

  Args:
    name: Name of each pixel's cell, int32 (H, W).
    config: Supplies `fill_holes` and `min_area`.

  Returns:
    The names of the remaining cells, int32 (H, W).
  """
  if not config.fill_holes:
    return kept(name, area(name) >= config.min_area)
  name, occupied = fill_holes(name)
  left = kept(name, area(name) >= config.min_area)
  # Specks in the remaining holes may now be gone.
  again = occupied & jnp.any(left != name)

  def fill(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return fill_holes(state[0])[0], jnp.zeros_like(again)

  # A loop of at most one iteration, because `lax.cond` under `jax.vmap` would
  # fill the holes of every image twice.
  return lax.while_loop(lambda state: state[1], fill, (left, again))[0]


def area(name: jax.Array) -> jax.Array:
  """Returns the area in pixels of every name's cell, int32 (H * W + 1,)."""
  flat = name.ravel()
  return pixels.total(flat, jnp.ones_like(flat), name.size + 1)


def kept(name: jax.Array, keep: jax.Array) -> jax.Array:
  """Keeps the cells for whose names `keep`, bool (H * W + 1,), is True."""
  return jnp.where(pixels.at(keep, name), name, nowhere(name))


def fill_holes(name: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Fills background that a single cell encloses.

  Args:
    name: Name of each pixel's cell, int32 (H, W).

  Returns:
    The names, int32 (H, W), and whether holes remain because other cells lie
    in them, bool ().
  """
  none = nowhere(name)
  # The frame joins all background that reaches the border into one region.
  framed = jnp.pad(name, 1, constant_values=none)
  background = framed == none
  # Background needs 8-connectivity where cells have 4-connectivity: only with
  # complementary rules does a closed outline separate inside from outside.
  region = pixels.regions(background, pixels.AROUND).ravel()
  beside = pixels.neighbours(framed, pixels.SIDES, none)
  low = functools.reduce(jnp.minimum, beside)
  high = functools.reduce(
    jnp.maximum, (jnp.where(name < none, name, -1) for name in beside)
  )
  size = framed.size
  low = pixels.lowest(region, low.ravel(), jnp.full(size, none))
  high = pixels.highest(region, high.ravel(), jnp.full(size, -1, jnp.int32))
  low, high = low.at[0].set(none), high.at[0].set(-1)  # Region 0 is outside.
  owner = jnp.where(low == high, high, none)
  filled = pixels.at(owner, region).reshape(framed.shape)
  filled = jnp.where(background, filled, framed)[1:-1, 1:-1]
  enclosed = pixels.at(low < high, region) & background.ravel()
  return filled, jnp.any(enclosed)


def numbered(name: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Numbers the cells in the order of their names.

  Returns:
    The labels, int32 (H, W), where 0 is background and 1 to n are the cells;
    and n, int32 ().
  """
  flat = name.ravel()
  first = flat == pixels.places(name.shape).ravel()
  number = jnp.cumsum(first, dtype=jnp.int32)
  padded = jnp.append(number, 0)
  return pixels.at(padded, name), number[-1]


def grown(labels: jax.Array, rim: int) -> jax.Array:
  """Assigns background within `rim` pixels of a label to the nearest label.

  Args:
    labels: int32 (H, W); 0 is background.
    rim: Distance in pixels.

  Returns:
    The grown labels, int32 (H, W), equal to those of `cleanup.Labels.grown`.
  """
  if rim <= 0:
    return labels
  result = labels
  for near in pixels.neighbours(labels, _disc(rim), 0):
    result = jnp.where(result == 0, near, result)
  return result


def _disc(radius: int) -> list[tuple[int, int]]:
  """Returns steps from a pixel to all within `radius` of it, nearest first."""
  side = range(-radius, radius + 1)
  steps = [(y, x) for y in side for x in side if 0 < y * y + x * x <= radius**2]
  steps.sort(key=lambda step: step[0] ** 2 + step[1] ** 2)
  return [(-y, -x) for y, x in steps]
