"""What every decoder's cells undergo in JAX: see `inference.cleanup`.

Cells are named by their first place in the flat image, the order of which is
that of their numbers; H * W, `nowhere` below, is background.
"""

import functools

import jax
from jax import lax
import jax.numpy as jnp

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference.pure import pixels


def nowhere(name: jax.Array) -> jax.Array:
  """Returns the name of background, int32 ()."""
  return jnp.asarray(name.size, jnp.int32)  # Sizes may be symbolic.


def first_places(inside: jax.Array, root: jax.Array) -> jax.Array:
  """Names cells by their first place.

  Args:
    inside: The pixels of cells, bool (H, W).
    root: A place in each pixel's cell, the same in all of the cell, int32 (H,
      W).
  """
  own = pixels.places(root.shape).ravel()
  flat = root.ravel()
  outside = jnp.full_like(own, nowhere(root))
  first = pixels.lowest(flat, own, outside)
  return jnp.where(inside, pixels.at(first, root), nowhere(root))


def clean(name: jax.Array, config: DecodingConfig) -> jax.Array:
  """Fills holes and drops specks as `cleanup.clean` does.

  Args:
    name: int32 (H, W).
    config: `fill_holes` and `min_area`.

  Returns:
    The names of the cells that are left, int32 (H, W).
  """
  if not config.fill_holes:
    return kept(name, area(name) >= config.min_area)
  name, occupied = fill_holes(name)
  left = kept(name, area(name) >= config.min_area)
  again = occupied & jnp.any(left != name)  # Perhaps by specks now gone.

  def fill(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    return fill_holes(state[0])[0], jnp.zeros_like(again)

  # A loop of at most one turn: mapped over images, a condition would fill the
  # holes of all of them twice.
  return lax.while_loop(lambda state: state[1], fill, (left, again))[0]


def area(name: jax.Array) -> jax.Array:
  """Returns the pixels of the cell of every name, int32 (H * W + 1,)."""
  flat = name.ravel()
  return pixels.total(flat, jnp.ones_like(flat), name.size + 1)


def kept(name: jax.Array, keep: jax.Array) -> jax.Array:
  """Returns the names where `keep`, bool (H * W + 1,), at the name."""
  return jnp.where(pixels.at(keep, name), name, nowhere(name))


def fill_holes(name: jax.Array) -> tuple[jax.Array, jax.Array]:
  """Gives background that one cell alone encloses to that cell.

  Args:
    name: int32 (H, W).

  Returns:
    The names, and whether holes are left, since other cells lie in them.
  """
  none = nowhere(name)
  # The frame makes one region of all background that reaches the border.
  framed = jnp.pad(name, 1, constant_values=none)
  background = framed == none
  # Regions connected by sides are complementary to background connected by
  # corners too: only then does a closed outline separate inside from outside.
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
    int32 (H, W), 0 and 1 to n; and n, int32 ().
  """
  flat = name.ravel()
  first = flat == pixels.places(name.shape).ravel()
  number = jnp.cumsum(first, dtype=jnp.int32)
  padded = jnp.append(number, 0)
  return pixels.at(padded, name), number[-1]


def grown(labels: jax.Array, rim: int) -> jax.Array:
  """Gives background within `rim` pixels of a label to the nearest label.

  Args:
    labels: int32 (H, W).
    rim: Pixels.

  Returns:
    int32 (H, W), as `cleanup.Labels.grown`.
  """
  if rim <= 0:
    return labels
  result = labels
  for near in pixels.neighbours(labels, _disc(rim), 0):
    result = jnp.where(result == 0, near, result)
  return result


def _disc(radius: int) -> list[tuple[int, int]]:
  """Steps from a pixel to those that reach it, the nearest first."""
  side = range(-radius, radius + 1)
  steps = [(y, x) for y in side for x in side if 0 < y * y + x * x <= radius**2]
  steps.sort(key=lambda step: step[0] ** 2 + step[1] ** 2)
  return [(-y, -x) for y, x in steps]
