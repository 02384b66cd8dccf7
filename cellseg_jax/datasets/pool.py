"""The Pool: all training images with their targets, as one pytree."""

from collections.abc import Sequence

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.images import normalize, targets


@struct.dataclass
class Pool:
  """Training images at the network's scale, padded to one size.

  Attributes:
    pixels: float32 (N, H, W, C + 2): normalised image, foreground, weight.
    sizes: int32 (N, 2), height and width of each image within the padding.
    chances: float32 (N,), share of the crops that each image gives.
  """

  pixels: jax.Array
  sizes: jax.Array
  chances: jax.Array


def build_pool(images: Sequence[LabelledImage], config: Config) -> Pool:
  """Normalises, resamples and stacks the training images.

  Args:
    images: At least one; sizes may differ, channels may not.
    config: Normalisation, resampling and targets.

  Returns:
    A `Pool`; each image gives crops in proportion to its area.
  """
  prepared = [_prepare(image, config) for image in images]
  sizes = np.array([p.shape[:2] for p in prepared], np.int32)
  height, width = sizes.max(0)
  pixels = np.stack(
    [
      np.pad(p, [(0, height - p.shape[0]), (0, width - p.shape[1]), (0, 0)])
      for p in prepared
    ]
  )
  areas = sizes.prod(1).astype(np.float32)
  return Pool(
    pixels=jnp.asarray(pixels),
    sizes=jnp.asarray(sizes),
    chances=jnp.asarray(areas / areas.sum()),
  )


def _prepare(labelled: LabelledImage, config: Config) -> np.ndarray:
  """Returns (H, W, C + 2): normalised image, foreground and weight."""
  raw = labelled.image.reshape(*labelled.labels.shape, -1).astype(np.float32)
  image = normalize.normalize(jnp.asarray(raw), config.intensity)
  shape = normalize.resampled_shape(raw.shape[:2], config.data.resample)
  image = normalize.resample(image, shape)
  foreground, weight = targets.foreground_and_weight(
    targets.resample_labels(labelled.labels, shape),
    targets.resample_labels(labelled.valid, shape),
    config.targets,
  )
  return np.dstack([image, foreground, weight])
