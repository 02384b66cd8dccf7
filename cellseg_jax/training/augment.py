"""Random augmentation of training crops: one coordinate map and one gather.

Cropping, circular roll, flips, rotation, scaling and elastic deformation are
composed into one map from the crop's pixels to the image coordinates that they
are sampled at; intensity changes follow. All functions are pure and can be
compiled (see docs/method.md). `step.draw` calls them in every update.
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
  """A batch of N training crops.

  Attributes:
    images: Normalised intensities, float32 (N, S, S, C).
    targets: Target maps, float32 (N, S, S, M), 0 to 1.
    weights: Pixel weights, float32 (N, S, S), non-negative.
    sources: Index in the pool of the image that each crop was cut from, int32
      (N,).
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
    pool: All training images; or, for streaming, one window per crop, cut
      around the place that `choose` draws. Both give the same crops.
    config: Which augmentations to apply, and how strongly.
    size: Side of the crops in pixels.

  Returns:
    A `Batch` of N crops.
  """
  own = crop_keys(keys)
  if isinstance(pool, Windows):
    # Each crop reads its own window, which is centred on the crop and so starts
    # before it.
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
  """Returns an upper bound of `reach` over all crops.

  Args:
    config: Which augmentations to apply, and how strongly.
    size: Side of the crop in pixels.

  Returns:
    Pixels on each side.
  """
  stretch = config.scale * (math.sqrt(2) if config.rotate else 1)
  return math.ceil(_beyond(stretch, config, size)) + 1


def reach(keys: CropKeys, config: AugmentationConfig, size: int) -> jax.Array:
  """Returns how far beyond its nominal borders a crop may sample the image.

  Args:
    keys: The keys of the crop.
    config: Which augmentations to apply, and how strongly.
    size: Side of the crop in pixels.

  Returns:
    Pixels on each side, int32 (), at most `most_reach`.
  """
  angle, factor = _turn(keys, config)
  stretch = (jnp.abs(jnp.cos(angle)) + jnp.abs(jnp.sin(angle))) / factor
  pixels = jnp.ceil(_beyond(stretch, config, size)) + 1
  return jnp.minimum(pixels.astype(jnp.int32), most_reach(config, size))


def _beyond(stretch: Any, config: AugmentationConfig, size: int) -> Any:
  """Returns the reach of a crop that is stretched about its centre."""
  half = (size - 1) / 2
  # Single-precision normal samples do not exceed 5.5; cubic interpolation
  # overshoots the nodes by up to a quarter along each axis.
  largest = 5.5 * 1.25**2 * config.elastic
  # The last term exceeds any rounding error.
  return (half + largest) * stretch - half + 0.01


def _turn(
  keys: CropKeys, config: AugmentationConfig
) -> tuple[jax.Array | float, jax.Array | float]:
  """Draws the rotation angle in radians and the magnification of a crop."""
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
  """Draws the image coordinates that each pixel of a crop is sampled at.

  Args:
    keys: The keys of the crop.
    origin: Row and column of the crop's first pixel before flips, rotation,
      scaling and deformation, int32 (2,).
    config: Which augmentations to apply, and how strongly.
    size: Side of the crop in pixels.

  Returns:
    Rows and columns in pixels, float32 (S, S, 2). They may lie outside the
    image, which is then wrapped around. They are whole numbers unless rotation,
    scaling or elastic deformation is on.
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
    # Written out, since a GPU may compute a matrix product in lower precision.
    rows, columns = grid[..., 0], grid[..., 1]
    grid = jnp.stack(
      [cosine * rows - sine * columns, sine * rows + cosine * columns], axis=-1
    )
  return grid + origin + (size - 1) / 2


def _displacement(
  key: jax.Array, config: AugmentationConfig, size: int
) -> jax.Array:
  """Draws a smooth random displacement (S, S, 2) in pixels.

  Follows Simard et al., ICDAR 2003, but interpolates a coarse random grid by
  cubics instead of smoothing white noise.
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
  """Samples an image bilinearly, and its targets at the nearest pixel.

  Args:
    pool: The images or windows to sample.
    number: Index of the image or window, int32 ().
    first: Row and column, in the coordinates, of its first pixel, int32 (2,).
    extent: Height and width after which the coordinates wrap around, int32
      (2,).
    coordinates: Where to sample, rows and columns, float32 (S, S, 2).

  Returns:
    Intensities, target maps and pixel weight, float32 (S, S, C + M + 1).
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
  """Changes an image by random gamma, gain, offset, blur and noise.

  Args:
    key: A JAX random key.
    image: Normalised intensities, float32 (S, S, C).
    config: Strength of each change.

  Returns:
    The changed image, float32 (S, S, C). The gamma exponent applies only to
    positive values.
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
  """Blurs with a Gaussian of random standard deviation up to `most` pixels."""
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
  # The constant 0.1 models background light and read noise.
  deviation = strength * jnp.sqrt(0.1 + jnp.clip(image, 0, 1))
  return image + deviation * jax.random.normal(noise_key, image.shape)
