"""Random training crops: one inverse coordinate map and one gather.

Crop, circular roll, flips, rotation, scaling and elastic deformation compose
into the place in the image that each pixel of the crop is read from; then
intensities change. All pure, all compiled (case study, "Method").
"""

import math
from typing import Any, NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from cellseg_jax.config import AugmentationConfig
from cellseg_jax.datasets.pool import Pool, Windows
from cellseg_jax.training.places import choose, crop_keys, CropKeys, Place


class Batch(NamedTuple):
  """Training crops.

  Attributes:
    images: float32 (N, S, S, C), normalised.
    targets: float32 (N, S, S, M), 0 to 1.
    weights: float32 (N, S, S), non-negative.
    sources: int32 (N,), the place in the pool of the image each was cut from.
  """

  images: jax.Array
  targets: jax.Array
  weights: jax.Array
  sources: jax.Array


def augment(
  keys: jax.Array, pool: Pool | Windows, config: AugmentationConfig, size: int
) -> Batch:
  """Draws one augmented crop for every key.

  Args:
    keys: JAX random keys (N,); a crop depends on its own key alone.
    pool: The training images; or, for each crop, a part of one of them around
      the place that `choose` draws. The crops are the same.
    config: Which changes, and how strong.
    size: Side of the crops in pixels.

  Returns:
    A `Batch` of N crops.
  """
  own = crop_keys(keys)
  if isinstance(pool, Windows):
    # A crop reads its own window, whose first pixel lies before its own.
    places, numbers = Place(pool.images, pool.origins), jnp.arange(len(keys))
    first = pool.origins - (pool.pixels.shape[1] - size) // 2
    extents = jnp.full_like(first, pool.pixels.shape[1])
  else:
    places = choose(own, pool, config, size)
    numbers, extents = places.image, pool.sizes[places.image]
    first = jnp.zeros_like(places.origin)

  def crop(
    own: CropKeys,
    place: Place,
    number: jax.Array,
    first: jax.Array,
    extent: jax.Array,
  ) -> Batch:
    coordinates = sample_coordinates(own, place.origin, config, size)
    read = _read(pool, number, first, extent, coordinates)
    image, rest = read[..., : pool.channels], read[..., pool.channels :]
    image = change_intensity(own.intensity, image, config)
    return Batch(image, rest[..., :-1], rest[..., -1], place.image)

  return jax.vmap(crop)(own, places, numbers, first, extents)


def most_reach(config: AugmentationConfig, size: int) -> int:
  """Returns how far beyond its borders a crop may be read, at most.

  Args:
    config: Which changes, and how strong.
    size: Side of the crop in pixels.
  """
  stretch = config.scale * (math.sqrt(2) if config.rotate else 1)
  return math.ceil(_beyond(stretch, config, size)) + 1


def reach(keys: CropKeys, config: AugmentationConfig, size: int) -> jax.Array:
  """Returns how far beyond its borders a crop may be read.

  Args:
    keys: Those of the crop.
    config: Which changes, and how strong.
    size: Side of the crop in pixels.

  Returns:
    int32 (), pixels on each side, at most `most_reach`.
  """
  angle, factor = _turn(keys, config)
  stretch = (jnp.abs(jnp.cos(angle)) + jnp.abs(jnp.sin(angle))) / factor
  pixels = jnp.ceil(_beyond(stretch, config, size)) + 1
  return jnp.minimum(pixels.astype(jnp.int32), most_reach(config, size))


def _beyond(stretch: Any, config: AugmentationConfig, size: int) -> Any:
  """Returns how far a crop that is stretched from its middle reaches."""
  half = (size - 1) / 2
  # Normal numbers of single precision end at 5.5; a cubic through nodes
  # overshoots them by a quarter along either axis.
  largest = 5.5 * 1.25**2 * config.elastic
  # A little more than rounding may add.
  return (half + largest) * stretch - half + 0.01


def _turn(
  keys: CropKeys, config: AugmentationConfig
) -> tuple[jax.Array | float, jax.Array | float]:
  """Draws the angle in radians and the factor of magnification of a crop."""
  angle: jax.Array | float = 0.0
  factor: jax.Array | float = 1.0
  if config.scale > 1:
    log_scale = jax.random.uniform(keys.scale, minval=-1.0, maxval=1.0)
    factor = config.scale**log_scale
  if config.rotate:
    angle = jax.random.uniform(keys.angle, maxval=2 * jnp.pi)
  return angle, factor


def sample_coordinates(
  keys: CropKeys, origin: jax.Array, config: AugmentationConfig, size: int
) -> jax.Array:
  """Draws where in the image each pixel of a crop is read from.

  Args:
    keys: Those of the crop.
    origin: int32 (2,), row and column of the first pixel of the crop, if that
      is neither turned nor deformed.
    config: Which changes, and how strong.
    size: Side of the crop in pixels.

  Returns:
    float32 (S, S, 2), rows and columns in pixels, to be wrapped around the
    image. Whole numbers unless rotation, scaling or deformation is on.
  """
  angle, factor = _turn(keys, config)
  line = jnp.arange(size) - (size - 1) / 2
  grid = jnp.stack(jnp.meshgrid(line, line, indexing='ij'), axis=-1)
  if config.elastic:
    grid += _displacement(keys.elastic, config, size)
  if config.scale > 1:
    grid /= factor
  if config.flip:
    grid *= jax.random.rademacher(keys.flip, (2,), grid.dtype)
  if config.rotate:
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    # Written out: a product on a GPU could run in lower precision.
    rows, columns = grid[..., 0], grid[..., 1]
    grid = jnp.stack(
      [cosine * rows - sine * columns, sine * rows + cosine * columns], axis=-1
    )
  return grid + origin + (size - 1) / 2


def _displacement(
  key: jax.Array, config: AugmentationConfig, size: int
) -> jax.Array:
  """Draws a smooth random displacement (S, S, 2) in pixels.

  Simard et al., ICDAR 2003, with a coarse grid interpolated by a cubic instead
  of smoothed white noise.
  """
  nodes = size // config.elastic_spacing + 3
  coarse = config.elastic * jax.random.normal(key, (nodes, nodes, 2))
  fine = (nodes * config.elastic_spacing,) * 2
  field = jax.image.resize(coarse, (*fine, 2), 'cubic')
  start = (fine[0] - size) // 2
  return field[start : start + size, start : start + size]


def _read(
  pool: Pool | Windows,
  number: jax.Array,
  first: jax.Array,
  extent: jax.Array,
  coordinates: jax.Array,
) -> jax.Array:
  """Reads an image linearly, its targets at the nearest pixel, wrapped around.

  Args:
    pool: Whose pixels.
    number: int32 (), which of its images.
    first: int32 (2,), row and column that its first pixel stands for.
    extent: int32 (2,), height and width after which it repeats.
    coordinates: float32 (S, S, 2).

  Returns:
    float32 (S, S, C + M + 1).
  """
  _, height, width, depth = pool.pixels.shape
  floor = jnp.floor(coordinates)
  fraction = coordinates - floor
  corners = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
  places = floor.astype(jnp.int32)[..., None, :] + corners
  places = (places - first) % extent
  flat = (number * height + places[..., 0]) * width + places[..., 1]
  values = pool.pixels.reshape(-1, depth)[flat]
  shares = jnp.where(
    corners == 1, fraction[..., None, :], 1 - fraction[..., None, :]
  ).prod(-1)
  channels = pool.channels
  image = (values[..., :channels] * shares[..., None]).sum(-2)
  nearest = shares.argmax(-1)[..., None, None]
  target = jnp.take_along_axis(values[..., channels:], nearest, axis=-2)
  target = target[..., 0, :]
  return jnp.concatenate([image, target], axis=-1)


def change_intensity(
  key: jax.Array, image: jax.Array, config: AugmentationConfig
) -> jax.Array:
  """Changes an image by random gain, offset, exponent, blur and noise.

  Args:
    key: A JAX random key.
    image: float32 (S, S, C), normalised.
    config: How strong.

  Returns:
    float32 (S, S, C); the exponent applies to positive values alone.
  """
  curve_key, blur_key, noise_key = jax.random.split(key, 3)
  gain, offset, gamma = jax.random.uniform(
    curve_key, (3,), minval=-1.0, maxval=1.0
  )
  if config.gamma > 1:
    positive = jnp.maximum(image, 1e-6)
    image = jnp.where(image > 1e-6, positive ** (config.gamma**gamma), image)
  if config.gain > 1:
    image *= config.gain**gain
  if config.offset:
    image += config.offset * offset
  if config.blur:
    image = _blur(blur_key, image, config.blur)
  if config.noise:
    image = _add_noise(noise_key, image, config.noise)
  return image


def _blur(key: jax.Array, image: jax.Array, most: float) -> jax.Array:
  """Blurs by a Gaussian of random standard deviation, 0 to `most` pixels."""
  reach = math.ceil(2 * most)
  sigma = jax.random.uniform(key, minval=1e-3, maxval=most)
  taps = jnp.exp(-0.5 * (jnp.arange(-reach, reach + 1) / sigma) ** 2)
  taps /= taps.sum()
  for axis in (0, 1):
    pad = [(0, 0)] * 3
    pad[axis] = (reach, reach)
    padded = jnp.pad(image, pad, mode='edge')
    image = sum(
      tap * lax.slice_in_dim(padded, i, i + image.shape[axis], axis=axis)
      for i, tap in enumerate(taps)
    )
  return image


def _add_noise(key: jax.Array, image: jax.Array, most: float) -> jax.Array:
  """Adds noise whose variance grows with the intensity, as shot noise does."""
  strength_key, noise_key = jax.random.split(key)
  strength = jax.random.uniform(strength_key, maxval=most)
  # A tenth of the full range stands for background light and read noise.
  deviation = strength * jnp.sqrt(0.1 + jnp.clip(image, 0, 1))
  return image + deviation * jax.random.normal(noise_key, image.shape)
