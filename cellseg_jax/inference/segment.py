"""Segments images from raw pixels to labels in one compiled JAX program.

Images of more than about 4000 x 4000 pixels are better left to `large`.
"""

import functools
import math
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike
import numpy as np

from cellseg_jax.inference.predict import Model, predict_maps
from cellseg_jax.inference.pure import measure
from cellseg_jax.inference.pure.decode import decode

# 1024 x 1024 pixels densely filled with cells of 16 x 16 pixels. The
# measurements of so many cells take 128 KiB per image.
MAX_CELLS = 4096


class TooManyCellsError(ValueError):
  """An image contains more than `max_cells` cells."""


class Segmentation(NamedTuple):
  """The cells of images with any leading axes; a pytree.

  Row i of the measurements belongs to label i + 1; rows beyond the last cell
  are 0.

  Attributes:
    labels: Label images, int32 (..., H, W): 0 is background, 1 to `count` are
      the cells.
    count: Number of cells, at most `max_cells`, int32 (...).
    area: Area of each cell in pixels, int32 (..., max_cells).
    centroid: Mean row and column of each cell's pixels, float32
      (..., max_cells, 2); the centre of the image's first pixel is (0, 0).
    box: Bounding box of each cell: top, left, bottom and right, where bottom
      and right are exclusive, int32 (..., max_cells, 4).
    confidence: Confidence of each cell, 0 to 1, as defined in
      `inference.confidence`, float32 (..., max_cells).
    overflow: Whether there are more cells than `max_cells`, bool (...).
    finite: Whether all pixels of the image are finite, bool (...); if not, no
      cells are reported for the image.

  Examples:
    >>> import cellseg_jax
    >>> from skimage.io import imread
    >>> model = cellseg_jax.load_model('runs/cells')
    >>> image = imread('more_images/field5.tif')  # (H, W)
    >>> found = cellseg_jax.segment_with_scores(model, image)
    >>> sure = found.confidence[: found.count] > 0.8
    >>> int(found.labels.max()) == int(found.count) == sure.size
    True
  """

  labels: jax.Array
  count: jax.Array  # type: ignore[assignment]  # Not that of tuples.
  area: jax.Array
  centroid: jax.Array
  box: jax.Array
  confidence: jax.Array
  overflow: jax.Array
  finite: jax.Array


def segment(
  model: Model, images: ArrayLike, *, max_cells: int = MAX_CELLS
) -> jax.Array:
  """Finds the cells in images.

  Works under `jax.jit`, `jax.vmap`, `jax.pmap` and in `jax.lax.scan`, and on
  images that are sharded over a mesh of automatic axes
  (`jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,))`).
  Labels equal those of the NumPy decoder, `inference.decode`, for the same
  maps.

  Args:
    model: The model, as `load_model` returns it.
    images: Raw intensities, (..., H, W) for a model of one channel and
      (..., H, W, C) for a model of C channels; any leading axes. For images of
      more than about 4000 x 4000 pixels, use `segment_large`.
    max_cells: Largest number of cells in an image. Inside transformations,
      cells beyond it become background.

  Returns:
    Label images, int32 (..., H, W): 0 is background, 1 to n are the cells of
    each image, in the order of their first pixels before holes are filled and
    the rim is added. Inside transformations, the labels of an image with NaN or
    infinite pixels are all 0.

  Raises:
    ValueError: The shape does not fit the model's channels, `max_cells` is not
      positive or, outside transformations, an image holds NaN or infinity.
    TooManyCellsError: Outside transformations, an image contains more than
      `max_cells` cells.

  Examples:
    >>> import cellseg_jax
    >>> from skimage.io import imread
    >>> model = cellseg_jax.load_model('runs/cells')
    >>> image = imread('more_images/field5.tif')  # (H, W)
    >>> labels = cellseg_jax.segment(model, image)
    >>> labels.shape == image.shape, str(labels.dtype)
    (True, 'int32')
    >>> cell = labels == 1  # The pixels of the first cell, bool (H, W).
  """
  return segment_with_scores(model, images, max_cells=max_cells).labels


def segment_with_scores(
  model: Model, images: ArrayLike, *, max_cells: int = MAX_CELLS
) -> Segmentation:
  """Finds the cells in images, with measurements and confidence of each.

  Works under the same transformations as `segment`.

  Args:
    model: The model, as `load_model` returns it.
    images: Raw intensities, (..., H, W) for a model of one channel and
      (..., H, W, C) for a model of C channels; any leading axes.
    max_cells: Largest number of cells in an image, and size of the padded
      arrays. Inside transformations, cells beyond it become background.

  Returns:
    The cells of every image.

  Raises:
    ValueError: The shape does not fit the model's channels, `max_cells` is not
      positive or, outside transformations, an image holds NaN or infinity.
    TooManyCellsError: Outside transformations, an image contains more than
      `max_cells` cells.

  Examples:
    >>> import cellseg_jax
    >>> from skimage.io import imread
    >>> model = cellseg_jax.load_model('runs/cells')
    >>> image = imread('more_images/field5.tif')  # (H, W)
    >>> found = cellseg_jax.segment_with_scores(model, image, max_cells=500)
    >>> found.area.shape, found.centroid.shape
    ((500,), (500, 2))
    >>> areas = found.area[: found.count]  # Of the cells that there are.
    >>> bool((areas > 0).all())
    True
  """
  if max_cells < 1:
    raise ValueError(f'max_cells must be positive, found {max_cells}')
  found = _segment(model, images, max_cells)
  if isinstance(found.labels, jax.core.Tracer):
    return found
  if not jnp.all(found.finite):
    raise ValueError('the image holds NaN or infinite pixels')
  if jnp.any(found.overflow):
    full = np.argwhere(np.asarray(found.overflow).reshape(-1)).ravel()
    raise TooManyCellsError(
      f'more than max_cells={max_cells} cells in {full.size} of '
      f'{found.overflow.size} images, the first of them number {full[0]}; give '
      'a larger max_cells'
    )
  return found


@functools.partial(jax.jit, static_argnums=2)
def _segment(model: Model, images: ArrayLike, max_cells: int) -> Segmentation:
  """Computes what `segment_with_scores` returns."""
  maps = predict_maps(model, images)
  leading, size = maps['foreground'].shape[:-2], maps['foreground'].shape[-2:]
  pixels = jnp.isfinite(jnp.asarray(images, jnp.float32))
  finite = pixels.all(tuple(range(len(leading), pixels.ndim)))

  def of_image(
    image: tuple[dict[str, jax.Array], jax.Array],
  ) -> Segmentation:
    maps, finite = image
    # In maps of NaN nothing is above the threshold, so there are no cells.
    shown = {name: jnp.where(finite, m, jnp.nan) for name, m in maps.items()}
    labels, number = decode(shown, model.config.decoding, model.settings)
    # Dropped only after the rim is grown, so that the remaining labels equal
    # those without a limit.
    labels = jnp.where(labels <= max_cells, labels, 0)
    sure = measure.confidence(labels, shown, max_cells + 1)[1:]
    return Segmentation(
      labels,
      jnp.minimum(number, max_cells),
      *measure.measure(labels, max_cells),
      sure,
      number > max_cells,
      finite,
    )

  number = math.prod(leading)
  stacks = {name: m.reshape(number, *size) for name, m in maps.items()}
  found = jax.vmap(of_image)((stacks, finite.reshape(number)))
  return jax.tree.map(lambda x: x.reshape(*leading, *x.shape[1:]), found)
