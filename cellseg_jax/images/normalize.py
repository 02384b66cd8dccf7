"""Intensity normalisation and resampling, shared by training and prediction.

The only module of `images` that uses JAX: training, prediction and export must
run the same code, and prediction must be differentiable and compilable.
"""

import fractions
import math

import jax
import jax.numpy as jnp

from cellseg_jax.config import IntensityConfig

# Keeps products with image sides below 2**31.
_LARGEST_DENOMINATOR = 4000


def sample_stride(shape: tuple[int, ...], config: IntensityConfig) -> int:
  """Returns the step, in pixels, between sampled rows and columns."""
  return math.ceil(math.sqrt(shape[0] * shape[1] / config.sample))


def intensity_range(
  image: jax.Array, config: IntensityConfig
) -> tuple[jax.Array, jax.Array]:
  """Computes the intensity range that normalisation maps to 0 and 1.

  Args:
    image: float32 (H, W, C); H and W may be symbolic (`jax.export`).
    config: Percentiles, sample size and noise floor.

  Returns:
    The intensity that maps to 0, and the range above it that maps to 1, float32
    (C,) each; the range is positive.
  """
  if any(map(jax.export.is_symbolic_dim, image.shape[:2])):
    sample, following = _sample_of_unknown(image, config)
    return range_of_sample(sample, following, config, padded=True)
  stride = sample_stride(image.shape[:2], config)
  rows = image[::stride]
  return range_of_sample(rows[:, ::stride], rows[:, 1::stride], config)


def _sample_of_unknown(
  image: jax.Array, config: IntensityConfig
) -> tuple[jax.Array, jax.Array]:
  """Takes the sample of an image whose size is known only at run time.

  Args:
    image: float32 (H, W, C), H and W symbolic.
    config: Sample size.

  Returns:
    The sampled pixels and the pixels that follow them in their rows, as one row
    of float32 (1, n, C) each; unused places are NaN.
  """
  height, width = image.shape[:2]
  least = jnp.asarray(-(-height * width // config.sample), jnp.int32)
  stride = jnp.round(jnp.sqrt(least)).astype(jnp.int32)
  stride += stride * stride < least
  columns = (width + stride - 1) // stride
  # An upper bound of the sampled pixels, (H / stride + 1) * (W / stride + 1).
  number = jnp.arange(config.sample + height + width + 1, dtype=jnp.int32)
  row, column = number // columns * stride, number % columns * stride

  def taken(column: jax.Array) -> jax.Array:
    return image.at[row, column].get(mode='fill', fill_value=jnp.nan)[None]

  return taken(column), taken(column + 1)


def range_of_sample(
  sample: jax.Array,
  following: jax.Array,
  config: IntensityConfig,
  padded: bool = False,
) -> tuple[jax.Array, jax.Array]:
  """Computes the intensity range from a sample of pixels on a fixed grid.

  The range lies between two percentiles of the sample. If they are closer than
  `config.noise_floor` standard deviations of the pixel noise, the field is
  almost empty, and the range is widened to that so that noise stays small. The
  noise is estimated from differences between horizontal neighbours, whose mean
  absolute value is 2/sqrt(pi) standard deviations for Gaussian noise.

  Args:
    sample: Every `sample_stride`-th row and column from the first, float32 (h,
      w, C).
    following: The pixels that follow the sampled ones in their rows, float32
      (h, w or w - 1, C).
    config: Percentiles and noise floor.
    padded: Whether NaN stands for missing pixels.

  Returns:
    The intensity that maps to 0, and the range above it that maps to 1, float32
    (C,) each; the range is positive.
  """
  channels = sample.shape[-1]
  percentiles = jnp.array([config.low_percentile, config.high_percentile])
  percentile = jnp.nanpercentile if padded else jnp.percentile
  low, high = percentile(sample.reshape(-1, channels), percentiles, axis=0)
  noise = jnp.zeros(channels)
  if following.size:
    differences = jnp.abs(following - sample[:, : following.shape[1]])
    if padded:
      # An image with a single column has no neighbours: the mean is NaN.
      differences = jnp.nan_to_num(jnp.nanmean(differences, (0, 1)))[None, None]
    noise = differences.mean((0, 1)) * math.sqrt(math.pi) / 2
  span = jnp.maximum(high - low, config.noise_floor * noise)
  return low, jnp.where(span > 0, span, 1.0)


def normalize(image: jax.Array, config: IntensityConfig) -> jax.Array:
  """Maps intensities to about [0, 1], each channel by its own range.

  Args:
    image: float32 (H, W, C), raw intensities.
    config: Percentiles, sample size and noise floor.

  Returns:
    float32 (H, W, C); not clipped: intensities outside the range are mapped
    outside [0, 1].
  """
  low, span = intensity_range(image, config)
  return (image - low) / span


def whole_ratio(factor: float) -> tuple[int, int]:
  """Returns `factor` as a fraction: a numerator and a small denominator."""
  ratio = fractions.Fraction(factor).limit_denominator(_LARGEST_DENOMINATOR)
  return ratio.as_integer_ratio()


def resampled_shape(shape: tuple[int, int], factor: float) -> tuple[int, int]:
  """Returns height and width times `factor`, rounded, at least 1.

  Halves are rounded down.

  Args:
    shape: Height and width; may be symbolic (`jax.export`).
    factor: 0.05 to 8; approximated by a fraction with a small denominator, as
      symbolic sizes are integers.
  """
  above, below = whole_ratio(factor)
  height, width = (
    jax.core.max_dim(1, (side * above + (below - 1) // 2) // below)
    for side in shape
  )
  return height, width


def resample(image: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Resamples an image linearly, with antialiasing if it shrinks.

  Args:
    image: float32 (H, W, C).
    shape: New height and width.

  Returns:
    float32 (*shape, C).
  """
  if image.shape[:2] == shape:
    return image
  return jax.image.resize(image, (*shape, image.shape[2]), 'linear')
