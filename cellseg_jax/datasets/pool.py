"""The training images with their targets, as crops are cut from them."""

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
  """What crops are drawn by: all of the training images but their pixels.

  Attributes:
    sizes: int32 (N, 2), height and width of each image in network-input pixels.
    bounds: float32 (N,), rising to 1: an image's share of the crops is the step
      from the bound before it to its own. Summed on the host: devices may
      differ in the last bit.
    cells: int32 (K, 3), image, row and column of a pixel of every cell; -1 in
      rows at the end that stand for none.
  """

  sizes: jax.Array | np.ndarray
  bounds: jax.Array | np.ndarray
  cells: jax.Array | np.ndarray


@struct.dataclass
class Pool(Layout):
  """Training images at the network's scale, padded to one size.

  Attributes:
    pixels: float32 (N, H, W, C + M + 1): normalised image, targets, weight.
    channels: C (static).
  """

  pixels: jax.Array | np.ndarray
  channels: int = struct.field(pytree_node=False, default=1)


@struct.dataclass
class Windows:
  """A part of one training image for each of some crops, wrapped around.

  Attributes:
    pixels: float32 (N, H, W, C + M + 1), as a `Pool` holds them.
    images: int32 (N,), which image of the set each part is of.
    origins: int32 (N, 2), the crop's first row and column in that image; the
      crop lies in the middle of the part.
    channels: C (static).
  """

  pixels: jax.Array | np.ndarray
  images: jax.Array
  origins: jax.Array
  channels: int = struct.field(pytree_node=False, default=1)


def build_pool(images: Sequence[LabelledImage], config: Config) -> Pool:
  """Normalises, resamples and stacks the training images.

  Args:
    images: At least one; sizes may differ, channels may not.
    config: Normalisation, resampling, the network's maps and their targets.

  Returns:
    A `Pool` of host arrays; each image gives crops in proportion to its area.
  """
  sizes = network_sizes([image.labels.shape for image in images], config)
  height, width = sizes.max(0)
  # Filled in place: lists of arrays and copies took four times as much.
  pixels = aligned_zeros((len(images), height, width, depth(config)))
  cells = []
  for place, size, image in zip(pixels, sizes, images, strict=True):
    place[: size[0], : size[1]] = prepare_image(image, config)
    cells.append(middles(image, size))
  layout = make_layout(sizes, cells)
  return Pool(pixels=pixels, **vars(layout), channels=config.data.channels)


def aligned_zeros(shape: tuple[int, ...]) -> np.ndarray:
  """Returns float32 zeros that a CPU's JAX takes as they are, uncopied.

  It does where they begin at a multiple of 64 bytes.
  """
  size = 4 * math.prod(map(int, shape))
  memory = np.zeros(size + 64, np.uint8)
  start = -memory.ctypes.data % 64
  return memory[start : start + size].view(np.float32).reshape(shape)


def make_layout(sizes: np.ndarray, cells: Sequence[np.ndarray]) -> Layout:
  """Puts together what is known of the images.

  Args:
    sizes: int32 (N, 2), heights and widths.
    cells: N arrays int32 (., 2), as `middles` returns.

  Returns:
    A `Layout` of host arrays; each image gives crops in proportion to its area.
  """
  found = np.concatenate(
    [np.insert(of, 0, image, axis=1) for image, of in enumerate(cells)]
  )
  if not len(found):
    found = np.zeros((1, 3), np.int32)
  return Layout(sizes, _bounds(sizes.prod(1, dtype=np.float64)), found)


def layout_of_some(layout: Layout, chosen: np.ndarray) -> Layout:
  """Leaves all crops to some of the images, as if the others were not there.

  Args:
    layout: Of all images, host arrays.
    chosen: bool (N,), which of them; one at least has a cell.

  Returns:
    A `Layout` of arrays of the same shapes. But for the images' numbers, what
    is drawn by it is what is drawn by that of the chosen ones alone.
  """
  areas = layout.sizes.prod(1, dtype=np.float64)
  # An image whose bound is the one before it is never drawn.
  bounds = _bounds(np.where(chosen, areas, 0))
  own = layout.cells[chosen[layout.cells[:, 0]]]
  cells = np.full_like(layout.cells, -1)
  cells[: len(own)] = own
  return Layout(layout.sizes, bounds, cells)


def _bounds(areas: np.ndarray) -> np.ndarray:
  """Returns the bounds of a `Layout` for areas, float64 (N,)."""
  reached = areas.cumsum()
  return (reached / reached[-1]).astype(np.float32)


def network_sizes(
  shapes: Sequence[tuple[int, int]], config: Config
) -> np.ndarray:
  """Returns sizes at the network's scale, int32 (N, 2)."""
  scale = config.data.resample
  return np.array(
    [normalize.resampled_shape(s, scale) for s in shapes], 'int32'
  )


def depth(config: Config) -> int:
  """Returns the values a pixel: channels, targets and weight."""
  return config.data.channels + len(map_names(config.model)) + 1


def prepare_image(labelled: LabelledImage, config: Config) -> np.ndarray:
  """Returns (H, W, C + M + 1): normalised image, targets and weight."""
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
  """Returns row and column of the middle of every labelled cell.

  Args:
    labelled: The image; cells count where they are valid.
    size: Its height and width at the network's scale.

  Returns:
    int32 (K, 2), in pixels at that scale.
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
