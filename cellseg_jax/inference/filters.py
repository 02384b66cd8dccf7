"""Filters on final label images, whatever their numbering."""

import dataclasses

import numpy as np
from skimage.measure import label as label_pieces

from cellseg_jax.images.labels import (
  check_confidence,
  on_border,
  renumbered,
)
from cellseg_jax.inference.blocks import Array, cut
from cellseg_jax.inference.cleanup import clean, Labels
from cellseg_jax.inference.numbered import Numbered

FRAGMENTS = ('keep', 'largest', 'split')


@dataclasses.dataclass(frozen=True)
class Filters:
  """Which cells are left, and what becomes of their holes and pieces.

  The default changes nothing.

  Attributes:
    min_area: Fewest pixels of a cell, counted after its holes are filled.
    max_area: Most pixels of a cell, counted likewise; 0 is no limit.
    fill_holes: Whether to fill background that one cell alone encloses.
    fragments: What becomes of a cell in several pieces (pixels that meet at a
      corner are connected): 'keep' them; keep the 'largest' alone, since
      detached specks are errors of the outline more often than cells; or
      'split' them: the largest keeps the label, the others get new ones.
    drop_border: Whether to remove the cells on the border of the image.
    min_confidence: The least confidence of a cell, 0 to 1.
  """

  min_area: int = 0
  max_area: int = 0
  fill_holes: bool = False
  fragments: str = 'keep'
  drop_border: bool = False
  min_confidence: float = 0.0

  def __post_init__(self) -> None:
    if self.fragments not in FRAGMENTS:
      raise ValueError(
        f'fragments must be one of {", ".join(FRAGMENTS)}, found '
        f'{self.fragments!r}'
      )
    if self.min_area < 0 or self.max_area < 0:
      raise ValueError(
        'the smallest and the largest area must be at least 0, found '
        f'{self.min_area} and {self.max_area}'
      )
    if 0 < self.max_area < self.min_area:
      raise ValueError(
        f'the largest area, {self.max_area}, is below the smallest, '
        f'{self.min_area}: no cell would be left'
      )
    if not 0 <= self.min_confidence <= 1:
      raise ValueError(
        f'the least confidence must be 0 to 1, found {self.min_confidence}'
      )


def filter_labels(
  labels: np.ndarray, confidence: np.ndarray, filters: Filters
) -> tuple[np.ndarray, np.ndarray]:
  """Applies filters to a label image; cells that are left keep their labels.

  In this order: confidence, pieces, holes, smallest area, holes in which only
  cells lay that were too small, largest area, border.

  Args:
    labels: Integers (H, W), from 0 (background), in any numbering.
    confidence: Of every label that there is, in increasing order of the
      labels, float (n,), 0 to 1.
    filters: What to apply.

  Returns:
    The labels, of a wider type only where new labels need it, and the
    confidence of those that are left, in increasing order of the labels. A
    piece that was split off has the confidence of its cell.

  Raises:
    ValueError: There are more or fewer confidences than labels.
  """
  cells, values = renumbered(labels)
  check_confidence(confidence, values)
  values = values.astype(np.int64)
  sure = np.append(False, confidence >= filters.min_confidence)
  cells = np.where(sure[cells], cells, 0)
  if filters.fragments == 'largest':
    cells = _largest_pieces(cells)
  elif filters.fragments == 'split':
    cells, parents = _split(cells, values.size)
    new = np.arange(1, parents.size - values.size + 1)
    values = np.append(values, values.max(initial=0) + new)
    confidence = confidence[parents - 1]
  cells = _fill_and_drop(cells, values.size, filters)
  areas = np.bincount(cells.ravel(), minlength=values.size + 1)
  keep = areas > 0
  if filters.max_area:
    keep &= areas <= filters.max_area
  if filters.drop_border:
    keep[on_border(cells)] = False
  kept = np.where(keep, np.append(0, values), 0)
  dtype = labels.dtype
  if kept.max() > np.iinfo(dtype).max:
    dtype = np.min_scalar_type(kept.max())
  return np.take(kept.astype(dtype), cells), confidence[keep[1:]]


def filter_blocks(
  labels: Array, confidence: np.ndarray, filters: Filters, block: int = 2048
) -> np.ndarray:
  """Applies those filters that judge cells as wholes, block by block, in place.

  They are all of `Filters` but holes and fragments; the labels of our decoders
  are of one piece, and the decoder fills their holes if it is told to.

  Args:
    labels: Integers (H, W); 0 and 1 to n. Cells that go become 0, the others
      keep their labels.
    confidence: Of cell 1 to n, float (n,), 0 to 1.
    filters: What to apply.
    block: Side of the blocks, in pixels.

  Returns:
    The confidence of those that are left, in order.
  """
  boxes = cut((labels.shape[0], labels.shape[1]), (block, block))
  areas = np.zeros(confidence.size + 1, np.int64)
  border = np.zeros(confidence.size + 1, bool)
  for box in boxes:
    part = labels[box.slices]
    areas += np.bincount(part.ravel(), minlength=areas.size)
    for side, outside in (
      (part[0], box.top == 0),
      (part[-1], box.bottom == labels.shape[0]),
      (part[:, 0], box.left == 0),
      (part[:, -1], box.right == labels.shape[1]),
    ):
      if outside:
        border[side] = True
  keep = (areas >= max(filters.min_area, 1)) & np.append(
    False, confidence >= filters.min_confidence
  )
  if filters.max_area:
    keep &= areas <= filters.max_area
  if filters.drop_border:
    keep &= ~border
  if not keep[1:].all():
    for box in boxes:
      part = labels[box.slices]
      labels[box.slices] = np.where(keep[part], part, 0)
  return confidence[keep[1:]]


def _fill_and_drop(
  cells: np.ndarray, count: int, filters: Filters
) -> np.ndarray:
  """Fills holes and drops specks; cells keep their numbers, 1 to `count`."""
  number = np.arange(count + 1, dtype=np.int32)
  area = np.bincount(cells.ravel(), minlength=count + 1)
  cleaned = clean(
    Labels(Numbered(cells.astype(np.int32), cells.shape, [0]), number, area),
    cut(cells.shape, cells.shape),
    lambda: np.zeros(cells.shape, np.int32),
    min_area=max(filters.min_area, 1),
    fill_holes=filters.fill_holes,
  )
  labels = np.take(cleaned.label, cleaned.pieces[:, :])
  inside = cells > 0
  before = np.zeros(count + 1, np.int32)
  before[labels[inside]] = cells[inside]
  before[0] = 0
  return np.take(before, labels)


def _pieces(cells: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Numbers the connected pieces of every cell.

  Returns:
    The pieces, integers (H, W), from 1; of piece 0 (background) to m its cell,
    (m + 1,), and whether it is its cell's largest, of equals the first.
  """
  pieces = label_pieces(cells, background=0, connectivity=2)
  areas = np.bincount(pieces.ravel())
  owner = np.zeros(areas.size, np.int32)
  owner[pieces.ravel()] = cells.ravel()
  order = np.lexsort((-areas, owner))  # Stable.
  _, first = np.unique(owner[order], return_index=True)
  largest = np.zeros(areas.size, bool)
  largest[order[first]] = True
  return pieces, owner, largest


def _largest_pieces(cells: np.ndarray) -> np.ndarray:
  """Sets to background all pieces of each cell but the largest."""
  pieces, owner, largest = _pieces(cells)
  return np.take(np.where(largest, owner, 0), pieces)


def _split(cells: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Numbers all pieces but each cell's largest anew, from `count` + 1.

  Returns:
    The cells, int32 (H, W), and of 1 to n the cell it was a piece of, (n,).
  """
  pieces, owner, largest = _pieces(cells)
  numbers = np.where(largest, owner, count + np.cumsum(~largest))
  parents = np.append(np.arange(1, count + 1), owner[~largest])
  return np.take(numbers, pieces).astype(np.int32), parents
