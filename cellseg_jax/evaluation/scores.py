"""Instance segmentation metrics of label images, per image and pooled.

The counts behind the metrics add up over images, so that pooled metrics are
those of all cells together and not means of ratios.
"""

from collections.abc import Sequence
import dataclasses
import functools
import operator

import numpy as np
from scipy import ndimage

from cellseg_jax.evaluation import matching
from cellseg_jax.evaluation.matching import OverlapTable
from cellseg_jax.images.outlines import boundary

# Distance, in pixels, by which a predicted boundary may miss the true one.
BOUNDARY_TOLERANCE = 2
# Minimum share of a true cell that counts as a part of it, and minimum IoU at
# which a cell counts as found at all.
LEAST_PART, LEAST_IOU = 0.1, 0.1
# Matula et al., PLoS ONE 2015, table 1: costs of correcting a cell graph.
SPLIT_COST, ADD_COST, DELETE_COST = 5, 10, 1


@dataclasses.dataclass(frozen=True, eq=False)
class Errors:
  """Labels of the cells that are wrong, by kind of error, increasing.

  Attributes:
    merged: True cells of which more than half is covered by a predicted cell
      that also covers more than half of another true cell.
    split: True cells that contain at least two predicted cells, each mostly
      inside the true cell and covering at least a tenth of its area.
    missed: True cells whose overlaps all have an IoU below 0.1.
    extra: Predicted cells whose overlaps all have an IoU below 0.1.
  """

  merged: np.ndarray
  split: np.ndarray
  missed: np.ndarray
  extra: np.ndarray


@dataclasses.dataclass(frozen=True, eq=False)
class Counts:
  """Counts from which the metrics are computed; they add up over images.

  Attributes:
    match: Matched pairs, cells and pixels.
    iou_of_matched: Sum of the IoUs above 0.5.
    seg: Sum over true cells of the IoU with the predicted cell that covers
      more than half of it, if any.
    uncovered: Number of true cells of which no predicted cell covers more than
      half.
    unused: Number of predicted cells that do not cover more than half of any
      true cell.
    surplus: Number of true cells covered by more than half, not counting the
      first of each predicted cell.
    shared_in_pairs: Pixels in the intersections of true cells with their best
      match.
    joined_in_pairs: Pixels in the unions of true cells with their best match,
      plus those of predicted cells that are no best match.
    near: Predicted boundary pixels near a true one, and true ones near a
      predicted one, int64 (2,).
    boundary: Predicted and true boundary pixels, int64 (2,).
    merged, split, missed, extra: Numbers of errors, see `Errors`.
  """

  match: matching.MatchCounts
  iou_of_matched: float
  seg: float
  uncovered: int
  unused: int
  surplus: int
  shared_in_pairs: int
  joined_in_pairs: int
  near: np.ndarray
  boundary: np.ndarray
  merged: int
  split: int
  missed: int
  extra: int

  def __add__(self, other: 'Counts') -> 'Counts':
    """Pools the counts of two sets of images."""
    names = (field.name for field in dataclasses.fields(self))
    return Counts(*(getattr(self, n) + getattr(other, n) for n in names))


def find_errors(table: OverlapTable) -> Errors:
  """Lists the cells that are merged, split, missed or extra."""
  covers, takes = _covers(table)
  merging = covers & (takes[table.predicted_index] > 1)
  part = table.shared > 0.5 * table.predicted_areas[table.predicted_index]
  part &= table.shared >= LEAST_PART * table.true_areas[table.true_index]
  parts = np.bincount(table.true_index[part], minlength=table.true_labels.size)
  found = table.iou >= LEAST_IOU
  return Errors(
    merged=table.true_labels[np.unique(table.true_index[merging])],
    split=table.true_labels[parts > 1],
    missed=np.delete(table.true_labels, table.true_index[found]),
    extra=np.delete(table.predicted_labels, table.predicted_index[found]),
  )


def count(true: np.ndarray, predicted: np.ndarray) -> Counts:
  """Compares two label images.

  Args:
    true: Integer label image, (H, W); 0 is background, labels need not be
      consecutive.
    predicted: Label image of the same shape.

  Returns:
    Counts, which add up over images.

  Raises:
    ValueError: The shapes differ, or labels are not integers from 0 to
      2**32 - 1.
  """
  table = matching.overlap_table(true, predicted)
  errors = find_errors(table)
  covers, takes = _covers(table)
  shared, joined = _pairs_of_best_match(table)
  near, boundary = _boundaries(true, predicted)
  return Counts(
    match=matching.count_matches(table),
    iou_of_matched=float(table.iou[table.iou > 0.5].sum()),
    seg=float(table.iou[covers].sum()),
    uncovered=table.true_labels.size - int(covers.sum()),
    unused=int((takes == 0).sum()),
    surplus=int(np.maximum(takes - 1, 0).sum()),
    shared_in_pairs=shared,
    joined_in_pairs=joined,
    near=near,
    boundary=boundary,
    **{
      field.name: getattr(errors, field.name).size
      for field in dataclasses.fields(Errors)
    },
  )


def pool(counts: Sequence[Counts]) -> Counts:
  """Adds up the counts of at least one image."""
  return functools.reduce(operator.add, counts)


def metrics(counts: Counts) -> dict[str, float | dict[str, float]]:
  """Computes the metrics; ratios are 0 if there are no cells.

  Returns:
    precision, recall, f1, ap: Value by IoU threshold ('0.5' to '0.95'); ap is
      TP / (TP + FP + FN).
    mean_ap: Mean of ap over the ten thresholds.
    pq: Panoptic quality at IoU 0.5 (Kirillov et al., CVPR 2019).
    seg, det: SEG and DET of the Cell Tracking Challenge (Maska et al. 2014,
      Matula et al. 2015).
    aji: Aggregated Jaccard index (Kumar et al., IEEE TMI 2017).
    boundary_f1: F1 of boundary pixels within 2 pixels (Csurka et al., BMVC
      2013).
    dice: Dice coefficient of the cell pixels.
    true, predicted, merged, split, missed, extra: Numbers of cells.
  """
  match = counts.match
  found, true, predicted = (
    match.matched,
    match.true_cells,
    match.predicted_cells,
  )
  ap = found / np.maximum(true + predicted - found, 1)
  cost = (
    SPLIT_COST * counts.surplus
    + ADD_COST * counts.uncovered
    + DELETE_COST * counts.unused
  )
  worst = ADD_COST * max(true, 1)
  near = counts.near / np.maximum(counts.boundary, 1)
  return {
    'precision': _by_iou(found / max(predicted, 1)),
    'recall': _by_iou(found / max(true, 1)),
    'f1': _by_iou(2 * found / max(true + predicted, 1)),
    'ap': _by_iou(ap),
    'mean_ap': float(ap.mean()),
    'pq': counts.iou_of_matched / max((true + predicted) / 2, 1),
    'seg': counts.seg / max(true, 1),
    'det': 1 - min(cost, worst) / worst if true else 0.0,
    'aji': counts.shared_in_pairs / max(counts.joined_in_pairs, 1),
    'boundary_f1': float(2 * near.prod() / max(near.sum(), 1e-12)),
    'dice': matching.dice(match),
    'true': true,
    'predicted': predicted,
    'merged': counts.merged,
    'split': counts.split,
    'missed': counts.missed,
    'extra': counts.extra,
  }


def _by_iou(values: np.ndarray) -> dict[str, float]:
  return {
    f'{iou:g}': float(value)
    for iou, value in zip(matching.IOU_THRESHOLDS, values, strict=True)
  }


def _covers(table: OverlapTable) -> tuple[np.ndarray, np.ndarray]:
  """Finds the pairs in which more than half of the true cell is covered.

  Returns:
    Whether each pair is one, bool (K,), and how many true cells each predicted
    cell covers in this way, int64 (P,).
  """
  covers = table.shared > 0.5 * table.true_areas[table.true_index]
  return covers, np.bincount(
    table.predicted_index[covers], minlength=table.predicted_labels.size
  )


def _pairs_of_best_match(table: OverlapTable) -> tuple[int, int]:
  """Returns the pixels of the intersections and unions behind the AJI."""
  order = np.lexsort((table.iou, table.true_index))
  last = np.append(np.diff(table.true_index[order]) > 0, True)[: order.size]
  best = order[last]
  predicted = table.predicted_index[best]
  shared = table.shared[best].sum()
  joined = table.true_areas.sum() + table.predicted_areas[predicted].sum()
  unused = np.delete(table.predicted_areas, predicted).sum()
  return int(shared), int(joined - shared + unused)


def _boundaries(
  true: np.ndarray, predicted: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
  """Counts boundary pixels, of the predicted and of the true labels.

  Returns:
    Those near a boundary of the other image, and all; int64 (2,) each.
  """
  outlines = [boundary(predicted), boundary(true)]
  near = []
  for mine, other in (outlines, outlines[::-1]):
    if not other.any():
      near.append(0)
      continue
    distance = ndimage.distance_transform_edt(~other)
    near.append(int((distance[mine] <= BOUNDARY_TOLERANCE).sum()))
  return np.array(near), np.array([outline.sum() for outline in outlines])
