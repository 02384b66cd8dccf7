"""Neighbours and connected regions of pixels, as arrays of a fixed size.

A set of pixels is named by the place of one of them in the flat image; what is
known of a set is kept at that place of an array of the image's size. So nothing
has a size that depends on the data, and every step is a shift of the image, a
gather or a scatter.
"""

from collections.abc import Sequence

import jax
from jax import lax
import jax.numpy as jnp

# Rows and columns to the neighbours by side, and by side or corner.
SIDES = ((-1, 0), (0, -1), (0, 1), (1, 0))
AROUND = tuple(
  (y, x) for y in (-1, 0, 1) for x in (-1, 0, 1) if (y, x) != (0, 0)
)

Steps = Sequence[tuple[int, int]]


def places(shape: tuple[int, ...]) -> jax.Array:
  """Returns the place of each pixel in the flat image, int32 (H, W)."""
  return jnp.arange(shape[0] * shape[1], dtype=jnp.int32).reshape(shape)


def neighbours(
  values: jax.Array, steps: Steps, outside: jax.Array | float
) -> list[jax.Array]:
  """Returns what lies each of the steps away from every pixel.

  Args:
    values: (H, W).
    steps: Rows and columns away.
    outside: What lies outside of the image.

  Returns:
    For each step an array like `values`.
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
  """Returns `values`, flat, at places that are known to lie in it."""
  return values.at[index].get(mode='promise_in_bounds')


def lowest(
  index: jax.Array, values: jax.Array, initial: jax.Array
) -> jax.Array:
  """Returns `initial`, lowered to the values at each index; all flat."""
  return initial.at[index].min(values, mode='promise_in_bounds')


def highest(
  index: jax.Array, values: jax.Array, initial: jax.Array
) -> jax.Array:
  """Returns `initial`, raised to the values at each index; all flat."""
  return initial.at[index].max(values, mode='promise_in_bounds')


def total(index: jax.Array, values: jax.Array, size: int) -> jax.Array:
  """Returns the sum of the values at each index, (size,)."""
  zeros = jnp.zeros(size, values.dtype)
  return zeros.at[index].add(values, mode='promise_in_bounds')


def roots(parent: jax.Array) -> jax.Array:
  """Follows every pointer to its end, doubling the stride (pointer jumping).

  Args:
    parent: int32 (N,), without cycles but for those that point to themselves.
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

  Every region hooks onto the lowest name next to it, until none changes
  (Shiloach and Vishkin, J. Algorithms 1982).

  Args:
    inside: bool (H, W).
    steps: Which neighbours connect: `SIDES` or `AROUND`.

  Returns:
    For each pixel inside the first place of its region, for the others their
    own place, int32 (H, W).
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
