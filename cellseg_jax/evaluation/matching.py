"""Matching of true and predicted cells in label images.

The counts are the basis of F1, Dice and the other metrics.
"""

import dataclasses

import numpy as np

IOU_THRESHOLDS = np.round(np.arange(0.5, 0.96, 0.05), 2)


@dataclasses.dataclass(frozen=True, eq=False)
class OverlapTable:
  """All pairs of a true and a predicted cell that overlap.

  Attributes:
    true_labels: Labels of the true cells, increasing, int64 (T,).
    predicted_labels: Labels of the predicted cells, increasing, int64 (P,).
    true_areas: Pixels of each true cell, int64 (T,).
    predicted_areas: Pixels of each predicted cell, int64 (P,).
    true_index: Index of the true cell of each pair, int64 (K,).
    predicted_index: Index of the predicted cell of each pair, int64 (K,).
    shared: Pixels that the cells of each pair share, int64 (K,), at least 1.
  """

  true_labels: np.ndarray
  predicted_labels: np.ndarray
  true_areas: np.ndarray
  predicted_areas: np.ndarray
  true_index: np.ndarray
  predicted_index: np.ndarray
  shared: np.ndarray

  @property
  def iou(self) -> np.ndarray:
    """Intersection over union of each pair, float64 (K,), in (0, 1]."""
    areas = self.true_areas[self.true_index]
    areas = areas + self.predicted_areas[self.predicted_index]
    return self.shared / (areas - self.shared)


@dataclasses.dataclass(frozen=True, eq=False)
class MatchCounts:
  """Counts of one image or, added up, of several.

  Attributes:
    matched: Number of pairs with an IoU above each of `IOU_THRESHOLDS`, int64
      (10,).
    true_cells: Number of true cells.
    predicted_cells: Number of predicted cells.
    shared_pixels: Number of pixels that are cell in both label images.
    cell_pixels: Cell pixels of both label images, added up.
  """

  matched: np.ndarray
  true_cells: int
  predicted_cells: int
  shared_pixels: int
  cell_pixels: int

  def __add__(self, other: 'MatchCounts') -> 'MatchCounts':
    """Pools the counts of two sets of images."""
    fields = (field.name for field in dataclasses.fields(self))
    return MatchCounts(
      *(getattr(self, name) + getattr(other, name) for name in fields)
    )


def overlap_table(true: np.ndarray, predicted: np.ndarray) -> OverlapTable:
  """Counts the pixels that true and predicted cells share.

  Args:
    true: Integer label image of any shape; 0 is background, cells have labels
      up to 2**32 - 1, which need not be consecutive.
    predicted: Label image of the same shape.

  Raises:
    ValueError: The shapes differ, or labels are not integers in that range.
  """
  if true.shape != predicted.shape:
    raise ValueError(
      f'label images differ in shape: true {true.shape}, '
      f'predicted {predicted.shape}'
    )
  _check_values(true)
  _check_values(predicted)
  true, predicted = true.ravel(), predicted.ravel()
  # Cells consist of runs of equal pixels. Sorting runs instead of pixels is
  # fast, and its cost does not depend on how large the labels are.
  change = np.ones(true.shape, bool)
  change[1:] = (true[1:] != true[:-1]) | (predicted[1:] != predicted[:-1])
  start = np.flatnonzero(change)
  length = np.diff(start, append=true.size)
  code = true[start].astype(np.uint64) << np.uint64(32)
  code |= predicted[start].astype(np.uint64)
  pairs, run = np.unique(code, return_inverse=True)
  shared = np.bincount(run, length, minlength=pairs.size).astype(np.int64)
  true_of = (pairs >> np.uint64(32)).astype(np.int64)
  predicted_of = (pairs & np.uint64(2**32 - 1)).astype(np.int64)
  true_labels, true_areas = _areas(true_of, shared)
  predicted_labels, predicted_areas = _areas(predicted_of, shared)
  both = (true_of > 0) & (predicted_of > 0)
  return OverlapTable(
    true_labels,
    predicted_labels,
    true_areas,
    predicted_areas,
    true_index=np.searchsorted(true_labels, true_of[both]),
    predicted_index=np.searchsorted(predicted_labels, predicted_of[both]),
    shared=shared[both],
  )


def _check_values(labels: np.ndarray) -> None:
  if not np.issubdtype(labels.dtype, np.integer):
    raise ValueError(f'label images hold integers, found {labels.dtype}')
  if labels.size and not 0 <= labels.min() <= labels.max() < 2**32:
    raise ValueError(
      f'label values must be 0 to {2**32 - 1}, found {labels.min()} to '
      f'{labels.max()}'
    )


def _areas(
  labels: np.ndarray, pixels: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the distinct labels without 0, and the pixels of each."""
  cell = labels > 0
  distinct, index = np.unique(labels[cell], return_inverse=True)
  areas = np.bincount(index, pixels[cell], minlength=distinct.size)
  return distinct, areas.astype(np.int64)


def match(
  true_labels: np.ndarray,
  predicted_labels: np.ndarray,
  valid: np.ndarray | None = None,
) -> MatchCounts:
  """Counts the predicted cells that match a true one.

  A pair matches at threshold t if its intersection over union is above t. As
  thresholds are at least 0.5, a cell matches at most one other (Kirillov et al.
  2019, section 4.1).

  Args:
    true_labels: Integer label image, (H, W); 0 is background, labels need not
      be consecutive.
    predicted_labels: Label image of the same shape.
    valid: bool (H, W): the pixels that count, see `scored`. None means all.

  Returns:
    Counts, which add up over images.

  Raises:
    ValueError: The shapes differ, or labels are not integers from 0 to
      2**32 - 1.
  """
  true, predicted = np.asarray(true_labels), np.asarray(predicted_labels)
  if valid is not None:
    true, predicted = scored(true, predicted, valid)
  return count_matches(overlap_table(true, predicted))


def scored(
  true: np.ndarray, predicted: np.ndarray, valid: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Returns the true and predicted cells that take part in a comparison.

  Pixels that are not valid become background in both. Predicted cells that lie
  mostly on such pixels and match no true cell are removed: nobody labelled what
  they are, and their remaining pixels would count as cells that are not there
  (as the void regions of Kirillov et al. 2019, section 4.2).

  Args:
    true: Integer label image, (H, W); 0 is background.
    predicted: Label image of the same shape.
    valid: bool (H, W): the pixels that count.

  Returns:
    The two label images, with the values that are left unchanged.

  Raises:
    ValueError: As `overlap_table`.
  """
  if valid.all():
    return true, predicted
  true_left, left = np.where(valid, true, 0), np.where(valid, predicted, 0)
  table, whole = overlap_table(true_left, left), overlap_table(true, predicted)
  areas = whole.predicted_areas[
    np.searchsorted(whole.predicted_labels, table.predicted_labels)
  ]
  unlabelled = 2 * table.predicted_areas < areas
  unlabelled[table.predicted_index[table.iou > 0.5]] = False
  removed = np.isin(left, table.predicted_labels[unlabelled])
  return true_left, np.where(removed, 0, left)


def count_matches(table: OverlapTable) -> MatchCounts:
  """Counts the pairs with an IoU above each of `IOU_THRESHOLDS`."""
  return MatchCounts(
    matched=(table.iou[:, None] > IOU_THRESHOLDS).sum(0),
    true_cells=table.true_labels.size,
    predicted_cells=table.predicted_labels.size,
    shared_pixels=int(table.shared.sum()),
    cell_pixels=int(table.true_areas.sum() + table.predicted_areas.sum()),
  )


def f1(counts: MatchCounts) -> dict[float, float]:
  """Returns 2TP / (2TP + FP + FN) for each of `IOU_THRESHOLDS`.

  It is 0 if there are neither true nor predicted cells.
  """
  cells = max(counts.true_cells + counts.predicted_cells, 1)
  values = 2 * counts.matched / cells
  return dict(zip(IOU_THRESHOLDS.tolist(), values.tolist(), strict=True))


def mean_f1(counts: MatchCounts) -> float:
  """Returns the mean of F1 over the IoU thresholds 0.5 to 0.9."""
  return float(np.mean([v for iou, v in f1(counts).items() if iou <= 0.9]))


def dice(counts: MatchCounts) -> float:
  """Returns the Dice coefficient of the cell pixels, 0 to 1."""
  return 2 * counts.shared_pixels / max(counts.cell_pixels, 1)
