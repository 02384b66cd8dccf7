"""What is known of each cell, in JAX: area, box, centroid, confidence."""

from collections.abc import Mapping
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from cellseg_jax.inference.pure import pixels

# A probability is a whole multiple of 2**-27, as in `inference.confidence`,
# and split into three digits of 9 bits: sums of digits of 2**23 pixels fit an
# unsigned integer, so that their order does not matter.
_DIGIT = 9
_DIGITS = 3


class Measurements(NamedTuple):
  """Measurements of n cells.

  Attributes:
    area: Pixels, int32 (n,).
    centroid: Row and column, in pixels, the middle of the first pixel is 0;
      float32 (n, 2).
    box: First row and column of the bounding box, and the row and column after
      the last, int32 (n, 4).
  """

  area: jax.Array
  centroid: jax.Array
  box: jax.Array


def measure(labels: jax.Array, count: int) -> Measurements:
  """Measures the cells of an image.

  Args:
    labels: int32 (H, W), 0 to `count`.
    count: n; what is measured of an absent label is 0.
  """
  flat = labels.ravel()
  rows, columns = (
    lax.broadcasted_iota(jnp.int32, labels.shape, axis).ravel()
    for axis in (0, 1)
  )
  size = count + 1
  area = pixels.total(flat, jnp.ones_like(flat), size)
  first, after, middle = [], [], []
  for position, end in zip((rows, columns), labels.shape, strict=True):
    start = pixels.lowest(
      flat, position, jnp.full(size, jnp.asarray(end, jnp.int32))
    )
    last = pixels.highest(flat, position, jnp.zeros(size, jnp.int32))
    # Twice the distance from the middle of the box: the sum stays small.
    offset = 2 * position - pixels.at(start + last, flat)
    offset = pixels.total(flat, offset, size) / (2 * jnp.maximum(area, 1))
    middle.append((start + last) / 2 + offset)
    first.append(start)
    after.append(last + 1)
  there = area > 0
  box = jnp.where(there[:, None], jnp.stack([*first, *after], -1), 0)
  centroid = jnp.where(there[:, None], jnp.stack(middle, -1), 0.0)
  return Measurements(area[1:], centroid[1:], box[1:])


def confidence(
  index: jax.Array, maps: Mapping[str, jax.Array], size: int
) -> jax.Array:
  """Returns how sure the network is of each cell; see `inference.confidence`.

  It agrees with the reference to a rounding error of float32, for cells of up
  to 2**23 pixels.

  Args:
    index: Of each pixel's cell, int32 (H, W), 0 to `size` - 1.
    maps: `foreground` and perhaps `centre`, float32 (H, W), 0 to 1.
    size: Cells, background among them.

  Returns:
    float32 (size,), 0 to 1; 0 where there is no pixel.
  """
  index = index.ravel()
  area = pixels.total(index, jnp.ones_like(index, jnp.uint32), size)
  units = jnp.rint(maps['foreground'].ravel() * 2.0 ** (_DIGIT * _DIGITS))
  mean = _mean(units.astype(jnp.uint32), index, jnp.maximum(area, 1))
  if 'centre' in maps:
    zeros = jnp.zeros(size, maps['centre'].dtype)
    mean *= pixels.highest(index, maps['centre'].ravel(), zeros)
  return mean


def _mean(units: jax.Array, index: jax.Array, area: jax.Array) -> jax.Array:
  """Divides the sum of probabilities by an area, rounding once or twice.

  Args:
    units: Probabilities in units, uint32 (P,).
    index: Of the sum that each adds to, int32 (P,).
    area: What to divide by, positive, uint32 (size,).

  Returns:
    float32 (size,), 0 to 1.
  """
  mask = jnp.uint32(2**_DIGIT - 1)
  # The highest digit keeps what is above it: the units of 1.0 are one more.
  sums = [
    pixels.total(index, digit, area.size)
    for digit in (
      units >> (2 * _DIGIT),
      (units >> _DIGIT) & mask,
      units & mask,
    )
  ]
  high, middle, low = sums
  middle += low >> _DIGIT
  high += middle >> _DIGIT
  # Division by hand, digit after digit.
  quotient, remainder = high // area, high % area
  for digit in (middle & mask, low & mask):
    remainder = (remainder << _DIGIT) + digit
    quotient = (quotient << _DIGIT) + remainder // area
    remainder %= area
  rest = remainder.astype(jnp.float32) / area.astype(jnp.float32)
  value = quotient.astype(jnp.float32) + rest
  return value * jnp.float32(2.0 ** -(_DIGIT * _DIGITS))
