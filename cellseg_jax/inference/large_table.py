"""Measures the cells of an image that need not fit in memory.

The result is the table of `images.cells.measure_cells`, computed in windows.
"""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import ndimage

from cellseg_jax.images.cells import columns, measure_cells
from cellseg_jax.inference.blocks import Array, Box, cut, Each, in_turn


def measure_large(
  labels: Array,
  image: Any,
  confidence: np.ndarray,
  *,
  file: str,
  frame: int = 0,
  pixel_size: tuple[float, float] | None = None,
  block: int = 2048,
  each: Each = in_turn,
) -> dict[str, np.ndarray]:
  """Measures every cell like `images.cells.measure_cells`, block by block.

  Every cell is measured in a window that contains it entirely: the bounding box
  of all cells whose own bounding box starts in the same block.

  Args:
    labels: Label image, integers (H, W), in any numbering, read by slices; 0 is
      background.
    image: Intensities (H, W) or (H, W, C), read by slices in several threads.
    confidence: Confidence of each label present, in increasing order of the
      labels, float (n,), 0 to 1.
    file: Value of the column `file`.
    frame: Value of the column `frame`.
    pixel_size: Height and width of a pixel in um; None if unknown.
    block: Side of the blocks, in pixels.
    each: Measures the windows.

  Returns:
    The columns by name, each with one value per cell in increasing order of
    the labels, (n,); unknown values are NaN. Equal to those of `measure_cells`
    up to float rounding.
  """
  boxes = cut((labels.shape[0], labels.shape[1]), (block, block))
  values, bounds = _bounds(labels, boxes)

  def measure(window: _Window) -> dict[str, np.ndarray]:
    part, pixels = (np.asarray(a[window.box.slices]) for a in (labels, image))
    table = measure_cells(
      np.where(np.isin(part, values[window.cells]), part, 0),
      pixels,
      confidence[window.cells],
      file=file,
      frame=frame,
      pixel_size=pixel_size,
    )
    _move(table, window.box, pixel_size)
    table['touches_border'] = _on_border(bounds[:, window.cells], labels.shape)
    return table

  tables = list(each(measure, _windows(boxes, bounds)))
  if not tables:
    empty = np.zeros((1, 1, *image.shape[2:]), image.dtype)
    no_cell = np.zeros((1, 1), np.int32)
    return measure_cells(
      no_cell, empty, confidence, file=file, pixel_size=pixel_size
    )
  names = columns(1 if len(image.shape) == 2 else image.shape[2])
  joined = {
    column.name: np.concatenate([table[column.name] for table in tables])
    for column in names
  }
  order = np.argsort(joined['label'])
  return {name: column[order] for name, column in joined.items()}


class _Window(NamedTuple):
  """A part of the image that contains some cells entirely.

  Attributes:
    cells: Indices of these cells among all cells, int64 (m,).
    box: Position of the window in the image.
  """

  cells: np.ndarray
  box: Box


def _windows(boxes: Sequence[Box], bounds: np.ndarray) -> Iterator[_Window]:
  """Yields the window of the cells that start in each box, if there are any."""
  top, bottom, left, right = bounds
  for box in boxes:
    here = (top >= box.top) & (top < box.bottom)
    here &= (left >= box.left) & (left < box.right)
    if here.any():
      window = Box(
        int(top[here].min()),
        int(bottom[here].max()),
        int(left[here].min()),
        int(right[here].max()),
      )
      yield _Window(np.flatnonzero(here), window)


def _on_border(bounds: np.ndarray, shape: Sequence[int]) -> np.ndarray:
  top, bottom, left, right = bounds
  return (top == 0) | (left == 0) | (bottom == shape[0]) | (right == shape[1])


def _bounds(labels: Array, boxes: list[Box]) -> tuple[np.ndarray, np.ndarray]:
  """Finds the bounding boxes of all cells.

  Returns:
    The labels present, in increasing order, int64 (n,); and the top, bottom,
    left and right of each, where bottom and right are exclusive, int64 (4, n).
  """
  found: dict[int, list[int]] = {}
  for box in boxes:
    part = np.asarray(labels[box.slices])
    if not part.any():
      continue
    # Cells of a block have similar numbers, so the range is short.
    least = int(part[part > 0].min())
    places = ndimage.find_objects(np.maximum(part - (least - 1), 0))
    for label, place in enumerate(places, least):
      if place is None:
        continue
      rows, across = place
      one = found.setdefault(label, [2**62, 0, 2**62, 0])
      one[0] = min(one[0], rows.start + box.top)
      one[1] = max(one[1], rows.stop + box.top)
      one[2] = min(one[2], across.start + box.left)
      one[3] = max(one[3], across.stop + box.left)
  values = np.array(sorted(found), np.int64)
  bounds = [found[value] for value in values.tolist()]
  return values, np.array(bounds, np.int64).reshape(-1, 4).T


def _move(
  table: dict[str, np.ndarray],
  window: Box,
  pixel_size: tuple[float, float] | None,
) -> None:
  """Converts a table's positions from window to image coordinates, in place."""
  size = dict(zip('yx', pixel_size or (np.nan, np.nan), strict=True))
  for axis, offset, names in (
    ('y', window.top, ('centroid_y', 'box_top', 'box_bottom')),
    ('x', window.left, ('centroid_x', 'box_left', 'box_right')),
  ):
    for name in names:
      table[f'{name}_px'] = table[f'{name}_px'] + offset
      table[f'{name}_um'] = table[f'{name}_um'] + offset * size[axis]
