"""The Pool: all training images with their targets, as one pytree."""

from collections.abc import Sequence

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.images import normalize, targets


@struct.dataclass
class Pool:
  """Training images at the network's scale, padded to one size.

  Attributes:
    pixels: float32 (N, H, W, C + M + 1): normalised image, targets, weight.
    sizes: int32 (N, 2), height and width of each image within the padding.
    chances: float32 (N,), share of the crops that each image gives.
    cells: int32 (K, 3), image, row and column of a pixel of every cell.
    channels: C (static).
  """

  pixels: jax.Array
  sizes: jax.Array
  chances: jax.Array
  cells: jax.Array
  channels: int = struct.field(pytree_node=False, default=1)


def build_pool(images: Sequence[LabelledImage], config: Config) -> Pool:
  """Normalises, resamples and stacks the training images.

  Args:
    images: At least one; sizes may differ, channels may not.
    config: Normalisation, resampling, the network's maps and their targets.

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
    cells=jnp.asarray(_cells(images, sizes)),
    channels=config.data.channels,
  )


def _prepare(labelled: LabelledImage, config: Config) -> np.ndarray:
  """Returns (H, W, C + M + 1): normalised image, targets and weight."""
  raw = labelled.image.reshape(*labelled.labels.shape, -1).astype(np.float32)
  image = normalize.normalize(jnp.asarray(raw), config.intensity)
  shape = normalize.resampled_shape(raw.shape[:2], config.data.resample)
  image = normalize.resample(image, shape)
  maps, weight = targets.targets_and_weight(
    targets.resample_labels(labelled.labels, shape),
    targets.resample_labels(labelled.valid, shape),
    targets.map_names(config.model),
    config.targets,
  )
  return np.dstack([image, maps, weight])


def _cells(images: Sequence[LabelledImage], sizes: np.ndarray) -> np.ndarray:
  """Returns image, row and column of the middle of every labelled cell."""
  found = []
  for index, (image, size) in enumerate(zip(images, sizes, strict=True)):
    labels = np.where(image.valid, image.labels, 0)
    scale = size / labels.shape
    for box in ndimage.find_objects(labels):
      if box is not None:
        middle = [(part.start + part.stop) / 2 for part in box]
        found.append([index, *np.minimum(middle * scale, size - 1)])
  return np.array(found or [[0, 0, 0]], np.int32)
