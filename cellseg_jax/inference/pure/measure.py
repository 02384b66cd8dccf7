"""Measures cells in JAX: area, centroid, bounding box and confidence.

Used by `segment_with_scores` and, for the confidence, by the JAX decoder.
"""

from collections.abc import Mapping
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from cellseg_jax.inference.pure import pixels

# Probabilities are rounded to whole multiples of 2**-27, as in
# `inference.confidence`, and split into three digits of 9 bits. The sums of
# such digits over 2**23 pixels fit in uint32, so they are exact in any order.
_DIGIT = 9
_DIGITS = 3


class Measurements(NamedTuple):
  """Measurements of n cells.

  Attributes:
    area: Area in pixels, int32 (n,).
    centroid: Mean row and column in pixels, float32 (n, 2); the centre of the
      image's first pixel is (0, 0).
    box: Bounding box: top, left, bottom and right, where bottom and right are
      exclusive, int32 (n, 4).
  """

  area: jax.Array
  centroid: jax.Array
  box: jax.Array


def measure(labels: jax.Array, count: int) -> Measurements:
  """Measures the cells of an image.

  Args:
    labels: int32 (H, W); 0 is background, 1 to `count` are the cells.
    count: Number of cells, n; the measurements of absent labels are 0.
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
    # Twice the distance from the centre of the box, to keep the sums small.
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
  """Returns the confidence of each cell, as `inference.confidence` defines it.

  Agrees with that reference to within float32 rounding for cells of up to 2**23
  pixels.

  Args:
    index: Index of each pixel's cell, int32 (H, W), 0 to `size` - 1.
    maps: `foreground` and optionally `centre`, float32 (H, W), 0 to 1.
    size: Number of cells, including background.

  Returns:
    float32 (size,), 0 to 1; 0 for an index without pixels.
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
  """Divides sums of probabilities by areas, rounding only once or twice.

  Args:
    units: Probabilities in multiples of 2**-27, uint32 (P,).
    index: Index of the sum that each probability adds to, int32 (P,).
    area: The divisors, positive, uint32 (size,).

  Returns:
    float32 (size,), 0 to 1.
  """
  mask = jnp.uint32(2**_DIGIT - 1)
  # The highest digit is not masked, because 1.0 needs one bit more than 27.
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
  # Long division, digit by digit, since the whole sum may exceed 32 bits.
  quotient, remainder = high // area, high % area
  for digit in (middle & mask, low & mask):
    remainder = (remainder << _DIGIT) + digit
    quotient = (quotient << _DIGIT) + remainder // area
    remainder %= area
  rest = remainder.astype(jnp.float32) / area.astype(jnp.float32)
  value = quotient.astype(jnp.float32) + rest
  return value * jnp.float32(2.0 ** -(_DIGIT * _DIGITS))
