"""Prepared training images with their targets, which crops are cut from.

A `Pool` holds all images, a `Windows` one part of an image per crop, and a
`Layout` what is needed to draw where crops are cut.
"""

from collections.abc import Sequence
import math

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np
from scipy import ndimage

from cellseg_jax.config import Config, map_names
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.images import normalize, targets


@struct.dataclass
class Layout:
  """What is needed to draw where crops are cut: all but the images' pixels.

  Attributes:
    sizes: Height and width of each image in network-input pixels, int32 (N, 2).
    bounds: Cumulative shares of the crops, rising to 1, float32 (N,). An
      image's share is its bound less the previous one. They are summed on the
      host, since devices may differ in the last bit.
    cells: Image, row and column of the centre of every cell's bounding box,
      int32 (K, 3). Rows of -1 at the end are padding; without any cell, there
      is one row of zeros.
  """

  sizes: jax.Array | np.ndarray
  bounds: jax.Array | np.ndarray
  cells: jax.Array | np.ndarray


@struct.dataclass
class Pool(Layout):
  """Training images at the network's scale, padded to one size.

  Attributes:
    pixels: Normalised image (C), target maps (M) and pixel weight, float32
      (N, H, W, C + M + 1).
    channels: C; static under `jax.jit`.
  """

  pixels: jax.Array | np.ndarray
  channels: int = struct.field(pytree_node=False, default=1)


@struct.dataclass
class Windows:
  """One window of a training image for each of N crops.

  Windows that extend beyond their image are wrapped around.

  Attributes:
    pixels: Normalised image (C), target maps (M) and pixel weight, float32
      (N, H, W, C + M + 1).
    images: Index of the training image that each window is cut from, int32
      (N,).
    origins: First row and column of each crop in that image, int32 (N, 2); the
      crop lies in the middle of its window.
    channels: C; static under `jax.jit`.
  """

  pixels: jax.Array | np.ndarray
  images: jax.Array
  origins: jax.Array
  channels: int = struct.field(pytree_node=False, default=1)


def build_pool(images: Sequence[LabelledImage], config: Config) -> Pool:
  """Normalises, resamples and stacks the training images.

  Args:
    images: At least one image; sizes may differ, channels may not.
    config: Normalisation, resampling, the network's maps and their targets.

  Returns:
    A `Pool` of host arrays; each image's share of the crops is proportional to
    its area.
  """
  sizes = network_sizes([image.labels.shape for image in images], config)
  height, width = sizes.max(0)
  # Filled in place; lists of arrays and copies took four times the memory.
  pixels = aligned_zeros((len(images), height, width, depth(config)))
  cells = []
  for place, size, image in zip(pixels, sizes, images, strict=True):
    place[: size[0], : size[1]] = prepare_image(image, config)
    cells.append(middles(image, size))
  layout = make_layout(sizes, cells)
  return Pool(pixels=pixels, **vars(layout), channels=config.data.channels)


def aligned_zeros(shape: tuple[int, ...]) -> np.ndarray:
  """Returns float32 zeros that JAX can use on a CPU without copying.

  For that they begin at a multiple of 64 bytes.
  """
  size = 4 * math.prod(map(int, shape))
  memory = np.zeros(size + 64, np.uint8)
  start = -memory.ctypes.data % 64
  return memory[start : start + size].view(np.float32).reshape(shape)


def make_layout(sizes: np.ndarray, cells: Sequence[np.ndarray]) -> Layout:
  """Builds the layout of the images.

  Args:
    sizes: Height and width of each image, int32 (N, 2).
    cells: For each of the N images, the centres of its cells, int32 (K, 2), as
      `middles` returns them.

  Returns:
    A `Layout` of host arrays; each image's share of the crops is proportional
    to its area.
  """
  found = np.concatenate(
    [np.insert(of, 0, image, axis=1) for image, of in enumerate(cells)]
  )
  if not len(found):
    found = np.zeros((1, 3), np.int32)
  return Layout(sizes, _bounds(sizes.prod(1, dtype=np.float64)), found)


def layout_of_some(layout: Layout, chosen: np.ndarray) -> Layout:
  """Restricts the crops to some of the images.

  Args:
    layout: Layout of all images, as host arrays.
    chosen: Which images to draw crops from, bool (N,); at least one of them has
      a cell.

  Returns:
    A `Layout` with arrays of the same shapes. It draws the same crops as a
    layout of only the chosen images, except that images keep their indices.
  """
  areas = layout.sizes.prod(1, dtype=np.float64)
  # An image whose bound equals the previous one is never drawn.
  bounds = _bounds(np.where(chosen, areas, 0))
  own = layout.cells[chosen[layout.cells[:, 0]]]
  cells = np.full_like(layout.cells, -1)
  cells[: len(own)] = own
  return Layout(layout.sizes, bounds, cells)


def _bounds(areas: np.ndarray) -> np.ndarray:
  """Returns the `bounds` of a `Layout` from the images' areas, float64 (N,)."""
  reached = areas.cumsum()
  return (reached / reached[-1]).astype(np.float32)


def network_sizes(
  shapes: Sequence[tuple[int, int]], config: Config
) -> np.ndarray:
  """Returns heights and widths at the network's scale, int32 (N, 2).

  Args:
    shapes: Height and width of each image in pixels.
    config: Gives the resampling factor.
  """
  scale = config.data.resample
  return np.array(
    [normalize.resampled_shape(s, scale) for s in shapes], 'int32'
  )


def depth(config: Config) -> int:
  """Returns C + M + 1, the values per pixel: channels, targets and weight."""
  return config.data.channels + len(map_names(config.model)) + 1


def prepare_image(labelled: LabelledImage, config: Config) -> np.ndarray:
  """Prepares an image for a pool.

  Args:
    labelled: The image.
    config: Normalisation, resampling, the network's maps and their targets.

  Returns:
    Normalised image, target maps and pixel weight at the network's scale,
    (H, W, C + M + 1).
  """
  raw = labelled.image.reshape(*labelled.labels.shape, -1).astype(np.float32)
  image = normalize.normalize(jnp.asarray(raw), config.intensity)
  shape = normalize.resampled_shape(raw.shape[:2], config.data.resample)
  image = normalize.resample(image, shape)
  maps, weight = targets.targets_and_weight(
    targets.resample_labels(labelled.labels, shape),
    targets.resample_labels(labelled.valid, shape),
    map_names(config.model),
    config.targets,
  )
  return np.dstack([image, maps, weight])


def middles(labelled: LabelledImage, size: np.ndarray) -> np.ndarray:
  """Returns the centre of the bounding box of every labelled cell.

  Args:
    labelled: The image; only valid pixels of cells count.
    size: Height and width of the image at the network's scale.

  Returns:
    Rows and columns in pixels at the network's scale, int32 (K, 2).
  """
  labels = np.where(labelled.valid, labelled.labels, 0)
  scale = size / labels.shape
  found = [
    [(part.start + part.stop) / 2 for part in box]
    for box in ndimage.find_objects(labels)
    if box is not None
  ]
  middle = np.reshape(found, (-1, 2)) * scale
  return np.minimum(middle, size - 1).astype(np.int32)
