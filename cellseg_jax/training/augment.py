"""Random training crops: one inverse coordinate map and one gather.

Crop, circular roll, flips, rotation, scaling and elastic deformation compose
into the place in the image that each pixel of the crop is read from; then
intensities change. All pure, all compiled (case study, "Method").
"""

import math
from typing import NamedTuple

import jax
from jax import lax
import jax.numpy as jnp

from cellseg_jax.config import AugmentationConfig
from cellseg_jax.datasets.pool import Pool


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
  keys: jax.Array, pool: Pool, config: AugmentationConfig, size: int
) -> Batch:
  """Draws one augmented crop for every key.

  Args:
    keys: JAX random keys (N,); a crop depends on its own key alone.
    pool: The training images.
    config: Which changes, and how strong.
    size: Side of the crops in pixels.

  Returns:
    A `Batch` of N crops.
  """
  return jax.vmap(lambda key: _crop(key, pool, config, size))(keys)


def _crop(
  key: jax.Array, pool: Pool, config: AugmentationConfig, size: int
) -> Batch:
  """Draws one crop; the arrays have no leading axis."""
  which, place, intensity = jax.random.split(key, 3)
  index = jax.random.choice(which, pool.chances.size, p=pool.chances)
  if config.centred:
    index, middle = _choose_cell(which, index, pool, config)
  else:
    middle = None
  extent = pool.sizes[index]
  coordinates = sample_coordinates(place, extent, config, size, middle)
  crop = _read(pool, index, coordinates)
  channels = pool.channels
  image = change_intensity(intensity, crop[..., :channels], config)
  return Batch(image, crop[..., channels:-1], crop[..., -1], index)


def _choose_cell(
  key: jax.Array, index: jax.Array, pool: Pool, config: AugmentationConfig
) -> tuple[jax.Array, jax.Array]:
  """Draws a cell to centre the crop on, or leaves the image as drawn.

  Returns:
    The image, int32 (), and row and column, int32 (2,); -1 for no cell.
  """
  chance_key, cell_key = jax.random.split(key)
  cell = pool.cells[jax.random.randint(cell_key, (), 0, len(pool.cells))]
  centred = jax.random.uniform(chance_key) < config.centred
  return (
    jnp.where(centred, cell[0], index),
    jnp.where(centred, cell[1:], -1),
  )


def sample_coordinates(
  key: jax.Array,
  extent: jax.Array,
  config: AugmentationConfig,
  size: int,
  middle: jax.Array | None = None,
) -> jax.Array:
  """Draws where in the image each pixel of a crop is read from.

  Args:
    key: A JAX random key.
    extent: int32 (2,), the image's height and width in pixels.
    config: Which changes, and how strong.
    size: Side of the crop in pixels.
    middle: int32 (2,), a pixel to centre the crop on where not negative; None
      is anywhere.

  Returns:
    float32 (S, S, 2), rows and columns in pixels, to be wrapped around the
    image. Whole numbers unless rotation, scaling or deformation is on.
  """
  origin_key, flip_key, angle_key, scale_key, elastic_key = jax.random.split(
    key, 5
  )
  line = jnp.arange(size) - (size - 1) / 2
  grid = jnp.stack(jnp.meshgrid(line, line, indexing='ij'), axis=-1)
  if config.elastic:
    grid += _displacement(elastic_key, config, size)
  if config.scale > 1:
    log_scale = jax.random.uniform(scale_key, minval=-1.0, maxval=1.0)
    grid /= config.scale**log_scale
  if config.flip:
    grid *= jax.random.rademacher(flip_key, (2,), grid.dtype)
  if config.rotate:
    angle = jax.random.uniform(angle_key, maxval=2 * jnp.pi)
    sine, cosine = jnp.sin(angle), jnp.cos(angle)
    # Written out: a product on a GPU could run in lower precision.
    rows, columns = grid[..., 0], grid[..., 1]
    grid = jnp.stack(
      [cosine * rows - sine * columns, sine * rows + cosine * columns], axis=-1
    )
  # A rolled crop may start anywhere; otherwise it starts where it fits.
  room = extent if config.roll else jnp.maximum(extent - size + 1, 1)
  origin = jax.random.randint(origin_key, (2,), 0, room)
  if middle is not None:
    around = middle - size // 2
    if not config.roll:
      around = jnp.clip(around, 0, room - 1)
    origin = jnp.where(middle >= 0, around, origin)
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


def _read(pool: Pool, index: jax.Array, coordinates: jax.Array) -> jax.Array:
  """Reads an image linearly, its targets at the nearest pixel, wrapped around.

  Args:
    pool: The training images.
    index: int32 (), which image.
    coordinates: float32 (S, S, 2).

  Returns:
    float32 (S, S, C + M + 1).
  """
  _, height, width, depth = pool.pixels.shape
  floor = jnp.floor(coordinates)
  fraction = coordinates - floor
  corners = jnp.array([[0, 0], [0, 1], [1, 0], [1, 1]])
  places = floor.astype(jnp.int32)[..., None, :] + corners
  places %= pool.sizes[index]
  flat = (index * height + places[..., 0]) * width + places[..., 1]
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
