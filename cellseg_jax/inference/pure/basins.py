"""The `ascent` decoder in JAX: basins of the height, merged if shallow.

Gives the cells of `inference.ascent` and `inference.relief` on arrays of fixed
size.
"""

from collections.abc import Mapping

import jax
from jax import lax
import jax.numpy as jnp

from cellseg_jax.inference.pure import pixels


def find(
  maps: Mapping[str, jax.Array], settings: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Finds the basins of the height, merged across shallow passes.

  Args:
    maps: `foreground`, `distance` and `centre`, float32 (H, W), 0 to 1.
    settings: float32 () each. `threshold`: pixels with a foreground probability
      above it belong to cells. `centre_share`: weight of the centre map in the
      height. `depth`: the least drop from the lower of two peaks to the pass
      between them that keeps two basins separate.

  Returns:
    The pixels that belong to cells, bool (H, W); and, int32 (H, W), for these
    the flat index of the highest pixel of their cell (the last of equally high
    ones), for the others their own flat index.
  """
  height, inside = _height(maps, settings)
  root = pixels.roots(_climb(height).ravel()).reshape(height.shape)
  return inside, _merge(height, root, settings['depth'])


def _height(
  maps: Mapping[str, jax.Array], settings: Mapping[str, jax.Array]
) -> tuple[jax.Array, jax.Array]:
  """Returns the height, -inf in background, and the mask of foreground."""
  share = settings['centre_share']
  # XLA would fuse product and sum into one operation that rounds once instead
  # of twice, as NumPy does, which breaks ties between equal heights. The
  # maximum with 0 prevents the fusion.
  parts = (
    jnp.maximum((1 - share) * maps['distance'], 0),
    jnp.maximum(share * maps['centre'], 0),
  )
  height = parts[0] + parts[1]
  inside = (maps['foreground'] > settings['threshold']) & (height >= 0)
  return jnp.where(inside, height, -jnp.inf), inside


def _climb(height: jax.Array) -> jax.Array:
  """Returns the flat index of the highest of each pixel and its neighbours."""
  own = pixels.places(height.shape)
  best, way = height, own
  for value, place in zip(
    pixels.neighbours(height, pixels.AROUND, -jnp.inf),
    pixels.neighbours(own, pixels.AROUND, -1),
    strict=True,
  ):
    # Ties are broken in favour of the later pixel.
    higher = (value > best) | ((value == best) & (place > way))
    best = jnp.where(higher, value, best)
    way = jnp.where(higher, place, way)
  return jnp.where(height > -jnp.inf, way, own)


def _merge(height: jax.Array, root: jax.Array, depth: jax.Array) -> jax.Array:
  """Merges basins across shallow passes, like `relief.merge`.

  Args:
    height: float32 (H, W); -inf in background.
    root: Flat index of each pixel's summit, int32 (H, W).
    depth: The least drop from the lower of two peaks to the pass between them
      that keeps two basins separate, float32 ().

  Returns:
    `root` of the merged basins, int32 (H, W).
  """
  own = pixels.places(height.shape).ravel()
  flat = height.ravel()

  def join(state: tuple[jax.Array, jax.Array]) -> tuple[jax.Array, jax.Array]:
    root, _ = state
    low, upper = _best_pass(height, root)
    joins = (low > -jnp.inf) & (flat - low < depth)
    parent = pixels.roots(jnp.where(joins, upper, own))
    return pixels.at(parent, root), jnp.any(joins)

  return lax.while_loop(lambda s: s[1], join, (root, jnp.bool(True)))[0]


def _best_pass(
  height: jax.Array, root: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Finds each basin's highest pass to a basin with a higher peak.

  Of equal peaks the later counts as higher; of equal passes, the one to the
  highest peak.

  Args:
    height: float32 (H, W); -inf in background.
    root: Flat index of each pixel's summit, int32 (H, W).

  Returns:
    At the flat index of each summit, the height of the pass, -inf if there is
    none, float32 (H * W,); and the flat index of the other basin's summit,
    int32 (H * W,).
  """
  peak = pixels.at(height.ravel(), root)
  low = jnp.full_like(height, -jnp.inf)
  upper_peak, upper = low, jnp.full_like(root, -1)
  steps = pixels.AROUND
  for there, other_peak, other in zip(
    pixels.neighbours(height, steps, -jnp.inf),
    pixels.neighbours(peak, steps, -jnp.inf),
    pixels.neighbours(root, steps, -1),
    strict=True,
  ):
    above = (other_peak > peak) | ((other_peak == peak) & (other > root))
    level = jnp.where(above, jnp.minimum(height, there), -jnp.inf)
    better = _after((level, other_peak, other), (low, upper_peak, upper))
    low = jnp.where(better, level, low)
    upper_peak = jnp.where(better, other_peak, upper_peak)
    upper = jnp.where(better, other, upper)
  return _highest_of_basin(root.ravel(), low, upper_peak, upper)


def _after(
  one: tuple[jax.Array, ...], other: tuple[jax.Array, ...]
) -> jax.Array:
  """Whether `one` comes after `other` in lexicographic order, elementwise."""
  later = jnp.bool(False)
  for a, b in zip(reversed(one), reversed(other), strict=True):
    later = (a > b) | ((a == b) & later)
  return later


def _highest_of_basin(
  root: jax.Array, low: jax.Array, peak: jax.Array, upper: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Reduces the passes at each pixel to one per basin; see `_best_pass`."""
  low, peak, upper = low.ravel(), peak.ravel(), upper.ravel()
  nothing = jnp.full_like(low, -jnp.inf)
  best_low = pixels.highest(root, low, nothing)
  equal = low == pixels.at(best_low, root)
  peak = jnp.where(equal, peak, -jnp.inf)
  best_peak = pixels.highest(root, peak, nothing)
  equal &= peak == pixels.at(best_peak, root)
  upper = jnp.where(equal, upper, -1)
  return best_low, pixels.highest(root, upper, jnp.full_like(upper, -1))
