"""JAX primitives on pixels: neighbours, scatter reductions, connected regions.

A set of pixels is named by the flat index of one of them, and its properties
are stored at that index in an array of the image's size. No size therefore
depends on the data, and every step is a shift of the image, a gather or a
scatter.
"""

from collections.abc import Sequence

import jax
from jax import lax
import jax.numpy as jnp

# Row and column offsets of the 4 neighbours by side, and of all 8 neighbours.
SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))
AROUND = tuple(
  (y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)
)

Steps = Sequence[tuple[int, int]]


def places(shape: tuple[int, ...]) -> jax.Array:
  """Returns the flat index of each pixel of an image, int32 (H, W)."""
  return jnp.arange(shape[0] * shape[1], dtype=jnp.int32).reshape(shape)


def neighbours(
  values: jax.Array, steps: Steps, outside: jax.Array | float
) -> list[jax.Array]:
  """Returns, for each step, the value that many pixels away from every pixel.

  Args:
    values: The image, (H, W).
    steps: Row and column offsets.
    outside: Value of pixels outside the image.

  Returns:
    For each step, an array of the shape and type of `values`.
  """
  reach = max(max(abs(y), abs(x)) for y, x in steps)
  padded = jnp.pad(values, reach, constant_values=outside)
  height, width = values.shape
  return [
    lax.slice(
      padded,
      (reach + y, reach + x),
      (reach + y + height, reach + x + width),
    )
    for y, x in steps
  ]


def at(values: jax.Array, index: jax.Array) -> jax.Array:
  """Gathers from flat `values` at indices that must be within bounds."""
  return values.at[index].get(mode='promise_in_bounds')


def lowest(
  index: jax.Array, values: jax.Array, initial: jax.Array
) -> jax.Array:
  """Returns the minimum of `initial` and the values scattered to each index.

  Args:
    index: Where each value goes, int32 (P,); must be within bounds.
    values: The values, (P,).
    initial: The initial values, (size,).
  """
  return initial.at[index].min(values, mode='promise_in_bounds')


def highest(
  index: jax.Array, values: jax.Array, initial: jax.Array
) -> jax.Array:
  """Returns the maximum of `initial` and the values scattered to each index.

  Args:
    index: Where each value goes, int32 (P,); must be within bounds.
    values: The values, (P,).
    initial: The initial values, (size,).
  """
  return initial.at[index].max(values, mode='promise_in_bounds')


def total(index: jax.Array, values: jax.Array, size: int) -> jax.Array:
  """Returns the sum of the values scattered to each index, (size,).

  Args:
    index: Where each value goes, int32 (P,); must be within bounds.
    values: The values, (P,).
    size: Number of sums.
  """
  zeros = jnp.zeros(size, values.dtype)
  return zeros.at[index].add(values, mode='promise_in_bounds')


def roots(parent: jax.Array) -> jax.Array:
  """Follows every pointer to its end, doubling the stride (pointer jumping).

  Args:
    parent: Index that each element points to, int32 (N,); elements may point to
      themselves but must not form other cycles.
  """

  def further(
    state: tuple[jax.Array, jax.Array],
  ) -> tuple[jax.Array, jax.Array]:
    before, _ = state
    after = at(before, before)
    return after, jnp.any(after != before)

  return lax.while_loop(lambda s: s[1], further, (parent, jnp.bool(True)))[0]


def regions(inside: jax.Array, steps: Steps) -> jax.Array:
  """Finds the connected regions of a mask.

  Every region repeatedly hooks onto the lowest name next to it until none
  changes (Shiloach and Vishkin, J. Algorithms 1982).

  Args:
    inside: The mask, bool (H, W).
    steps: Offsets of connected neighbours: `SIDES` or `AROUND`.

  Returns:
    int32 (H, W): for each pixel in the mask the flat index of the first pixel
    of its region, for the others their own flat index.
  """
  own = places(inside.shape)
  nowhere = jnp.asarray(own.size, jnp.int32)

  def hook(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    name, _ = state
    beside = neighbours(jnp.where(inside, name, nowhere), steps, nowhere)
    best = name
    for other in beside:
      best = jnp.minimum(best, other)
    best = jnp.where(inside, best, name)
    parent = lowest(name.ravel(), best.ravel(), own.ravel())
    after = at(roots(parent), name)
    return after, jnp.any(after != name)

  return lax.while_loop(lambda s: s[1], hook, (own, jnp.bool(True)))[0]
