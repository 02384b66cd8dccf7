"""Filters that select cells in finished label images.

They filter by area, border contact and confidence, and treat holes and
fragments. Label images may have any numbering.
"""

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
  """Which cells to keep, and how to treat their holes and fragments.

  The defaults change nothing.

  Attributes:
    min_area: Smallest area of a cell in pixels, after its holes are filled.
    max_area: Largest area of a cell in pixels, after its holes are filled; 0 is
      no limit.
    fill_holes: Whether to fill background that a single cell encloses.
    fragments: How to treat a cell that consists of several 8-connected
      components: 'keep' keeps all; 'largest' keeps only the largest, because
      detached specks are more often outline errors than cells; 'split' makes
      each a cell, of which the largest keeps the label and the others get new
      ones.
    drop_border: Whether to drop cells that touch the image border.
    min_confidence: Lowest confidence of a cell, 0 to 1.
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
  """Applies filters to a label image; remaining cells keep their labels.

  The order is: confidence, fragments, holes, smallest area, holes that only
  dropped cells occupied, largest area, border.

  Args:
    labels: Label image, integers (H, W), in any numbering; 0 is background.
    confidence: Confidence of each label present, in increasing order of the
      labels, float (n,), 0 to 1.
    filters: The filters to apply.

  Returns:
    The filtered label image, of a wider type only if new labels require it;
    and the confidence of the remaining labels, in increasing order of the
    labels. A fragment that was split off has the confidence of its cell.

  Raises:
    ValueError: The numbers of confidences and labels differ.
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
  """Applies the area, border and confidence filters block by block, in place.

  `fill_holes` and `fragments` are not applied: this package's decoders return
  connected cells, and fill holes themselves if configured to.

  Args:
    labels: Label image, integers (H, W): 0 is background, 1 to n are the cells.
      Dropped cells become 0, the others keep their labels.
    confidence: Confidence of cells 1 to n, float (n,), 0 to 1.
    filters: The filters to apply.
    block: Side of the blocks, in pixels.

  Returns:
    The confidence of the remaining cells, in increasing order of the labels.
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
  """Fills holes and drops small cells; the others keep their numbers.

  Args:
    cells: Label image, integers (H, W), 0 to `count`.
    count: Number of cells.
    filters: Supplies `min_area` and `fill_holes`.
  """
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
  """Numbers the 8-connected components of every cell.

  Returns:
    The components, integers (H, W), from 1; for components 0 (background) to m
    the cell that each belongs to, (m + 1,); and whether each is the largest of
    its cell, (m + 1,), where ties go to the first.
  """
  pieces = label_pieces(cells, background=0, connectivity=2)
  areas = np.bincount(pieces.ravel())
  owner = np.zeros(areas.size, np.int32)
  owner[pieces.ravel()] = cells.ravel()
  order = np.lexsort((-areas, owner))  # Stable, so ties keep their order.
  _, first = np.unique(owner[order], return_index=True)
  largest = np.zeros(areas.size, bool)
  largest[order[first]] = True
  return pieces, owner, largest


def _largest_pieces(cells: np.ndarray) -> np.ndarray:
  """Sets all components of each cell except the largest to background."""
  pieces, owner, largest = _pieces(cells)
  return np.take(np.where(largest, owner, 0), pieces)


def _split(cells: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
  """Turns all components except each cell's largest into cells of their own.

  The new cells are numbered from `count` + 1.

  Returns:
    The cells, int32 (H, W); and for each cell, 1 to n, the original cell that
    it was part of, (n,).
  """
  pieces, owner, largest = _pieces(cells)
  numbers = np.where(largest, owner, count + np.cumsum(~largest))
  parents = np.append(np.arange(1, count + 1), owner[~largest])
  return np.take(numbers, pieces).astype(np.int32), parents
