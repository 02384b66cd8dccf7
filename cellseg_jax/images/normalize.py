"""Intensity normalisation and resampling, the same in training and in use.

The one module of `images` that uses JAX: training, prediction and export must
run the same code, and prediction must be differentiable and compilable.
"""

import math

import jax
import jax.numpy as jnp

from cellseg_jax.config import IntensityConfig


def sample_stride(shape: tuple[int, int], config: IntensityConfig) -> int:
  """Returns the distance in pixels of the rows and columns looked at."""
  return math.ceil(math.sqrt(shape[0] * shape[1] / config.sample))


def intensity_range(
  image: jax.Array, config: IntensityConfig
) -> tuple[jax.Array, jax.Array]:
  """Finds the intensities that normalisation maps to 0 and to 1.

  Args:
    image: float32 (H, W, C).
    config: Percentiles, sample and floor.

  Returns:
    Lowest intensity and range, float32 (C,); the range is positive.
  """
  stride = sample_stride(image.shape[:2], config)
  rows = image[::stride]
  return range_of_sample(rows[:, ::stride], rows[:, 1::stride], config)


def range_of_sample(
  sample: jax.Array, following: jax.Array, config: IntensityConfig
) -> tuple[jax.Array, jax.Array]:
  """Finds the same from a sample of the image's pixels on a fixed grid.

  They are percentiles of the sample. Where they lie closer than
  `config.noise_floor` standard deviations of the pixel noise, the field is
  almost empty and the range is widened to that, so that noise stays small. The
  noise is read off differences of horizontal neighbours, whose mean absolute
  value is 2/sqrt(pi) standard deviations for Gaussian noise.

  Args:
    sample: Every `sample_stride`-th row and column from the first, float32 (h,
      w, C).
    following: The pixels that follow those in their rows, float32 (h, w or
      w - 1, C).
    config: As for `intensity_range`.

  Returns:
    As `intensity_range`.
  """
  channels = sample.shape[-1]
  percentiles = jnp.array([config.low_percentile, config.high_percentile])
  low, high = jnp.percentile(sample.reshape(-1, channels), percentiles, axis=0)
  noise = jnp.zeros(channels)
  if following.size:
    differences = jnp.abs(following - sample[:, : following.shape[1]])
    noise = differences.mean((0, 1)) * math.sqrt(math.pi) / 2
  span = jnp.maximum(high - low, config.noise_floor * noise)
  return low, jnp.where(span > 0, span, 1.0)


def normalize(image: jax.Array, config: IntensityConfig) -> jax.Array:
  """Maps intensities to about [0, 1], each channel by its own range.

  Args:
    image: float32 (H, W, C), raw intensities.
    config: As for `intensity_range`.

  Returns:
    float32 (H, W, C); values outside the percentiles lie outside [0, 1].
  """
  low, span = intensity_range(image, config)
  return (image - low) / span


def resampled_shape(shape: tuple[int, int], factor: float) -> tuple[int, int]:
  """Returns height and width times `factor`, rounded, at least 1."""
  return max(1, round(shape[0] * factor)), max(1, round(shape[1] * factor))


def resample(image: jax.Array, shape: tuple[int, int]) -> jax.Array:
  """Resamples an image linearly, with antialiasing when it shrinks.

  Args:
    image: float32 (H, W, C).
    shape: New height and width.

  Returns:
    float32 (*shape, C).
  """
  if image.shape[:2] == shape:
    return image
  return jax.image.resize(image, (*shape, image.shape[2]), 'linear')
