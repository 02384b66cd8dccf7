"""From raw pixels to labels in one JAX program."""

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

# A square megapixel full of cells of 16 x 16 pixels; what is said of so many
# cells takes 128 KiB an image.
MAX_CELLS = 4096


class TooManyCellsError(ValueError):
  """An image holds more cells than there is room for."""


class Segmentation(NamedTuple):
  """The cells of images with any leading axes; a pytree.

  Row i of what is measured belongs to label i + 1; rows of no cell are 0.

  Attributes:
    labels: int32 (..., H, W): 0 is background, 1 to `count` are the cells.
    count: Cells, int32 (...).
    area: Pixels, int32 (..., max_cells).
    centroid: Mean row and column of the cell's pixels; the middle of the
      image's first pixel is 0. float32 (..., max_cells, 2).
    box: First row, first column, and the row and column after the last, int32
      (..., max_cells, 4).
    confidence: How sure the network is of the cell, 0 to 1, as
      `inference.confidence` defines it; float32 (..., max_cells).
    overflow: Whether there were more cells than `max_cells`, bool (...).
    finite: Whether all of the image's pixels are finite, bool (...); where not,
      no cells are looked for.

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
  """Finds the cells.

  Works under `jax.jit`, `jax.vmap`, `jax.pmap` and in `jax.lax.scan`, and on
  images that are sharded over a mesh of automatic axes
  (`jax.make_mesh(..., axis_types=(jax.sharding.AxisType.Auto,))`).
  Labels are those of the NumPy decoder, `inference.decode`, of the same maps.

  Args:
    model: As `load_model` returns.
    images: Raw intensities, (..., H, W) for a model of one channel and
      (..., H, W, C) for a model of C channels; any leading axes. An image of
      more than about 4000 x 4000 pixels is better left to `segment_large`.
    max_cells: The largest number of cells in an image. Inside transformations
      the pixels of those beyond it are 0.

  Returns:
    int32 (..., H, W): 0 is background, 1 to n are the cells of each image, in
    the order of their first pixels before holes are filled and the rim is
    added. Inside transformations all 0 for an image with NaN or infinite
    pixels.

  Raises:
    ValueError: The shape does not fit the model's channels; outside of
      transformations also for NaN or infinite pixels.
    TooManyCellsError: Outside of transformations: more than `max_cells`.

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
  """Finds the cells, measures them and says how sure the network is of each.

  Args:
    model: As for `segment`.
    images: As for `segment`.
    max_cells: As for `segment`; the size of the padded arrays.

  Returns:
    The cells of every image.

  Raises:
    ValueError: As `segment`, or `max_cells` is not positive.
    TooManyCellsError: As `segment`.

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
    # In one of NaN alone nothing is above the threshold.
    shown = {name: jnp.where(finite, m, jnp.nan) for name, m in maps.items()}
    labels, number = decode(shown, model.config.decoding, model.settings)
    # After the rim is added: the labels that stay are those without a limit.
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
