"""Exact pixelwise ROC (receiver operating characteristic) and its area."""

import dataclasses

import numpy as np

FALSE_POSITIVE_RATES = (0.01, 0.02, 0.05, 0.1)


@dataclasses.dataclass(frozen=True, eq=False)
class Roc:
  """A ROC curve, from calling no pixel a cell to calling every pixel one.

  Attributes:
    fpr: False positive rate (K,), increasing from 0 to 1.
    tpr: True positive rate (K,), increasing from 0 to 1.
    thresholds: Decreasing (K,); pixels with at least this score are called
      cell. The first is the smallest number above every score.
    auc: Area under the whole curve, 0 to 1.
  """

  fpr: np.ndarray
  tpr: np.ndarray
  thresholds: np.ndarray
  auc: float


def roc_curve(
  scores: np.ndarray, truth: np.ndarray, valid: np.ndarray | None = None
) -> Roc:
  """Computes the exact ROC curve and the area under it.

  The area is the probability that a cell pixel scores above a background pixel,
  ties counting half (Mann-Whitney; Fawcett 2006, section 7). It equals the area
  under the straight segments of the curve. To pool images, concatenate them.

  Args:
    scores: Floats of any shape; higher means cell.
    truth: bool, the same shape; True is cell.
    valid: bool, the same shape: the pixels that count. None means all.

  Returns:
    The curve, with a point for every distinct score.

  Raises:
    ValueError: A score is NaN, or all pixels that count are of one class.
  """
  scores, truth = np.asarray(scores), np.asarray(truth, bool)
  if valid is not None:
    scores, truth = scores[valid], truth[valid]
  if np.isnan(scores).any():
    raise ValueError('scores hold NaN; did the training diverge?')
  cell, background = np.sort(scores[truth]), np.sort(scores[~truth])
  if not (cell.size and background.size):
    raise ValueError(
      'an ROC needs cell pixels and background pixels, found '
      f'{cell.size} and {background.size}'
    )
  distinct = np.unique(scores)[::-1]
  above = np.nextafter(distinct[:1], np.array(np.inf, distinct.dtype))
  thresholds = np.concatenate((above, distinct))
  # Integers: the area is exact up to its division.
  hits = cell.size - _count_below(cell, thresholds)
  alarms = background.size - _count_below(background, thresholds)
  doubled_area = np.dot(np.diff(alarms), hits[1:] + hits[:-1])
  return Roc(
    fpr=alarms / background.size,
    tpr=hits / cell.size,
    thresholds=thresholds,
    auc=float(doubled_area / (2 * cell.size * background.size)),
  )


def _count_below(ordered: np.ndarray, thresholds: np.ndarray) -> np.ndarray:
  """Returns how many values are below each decreasing threshold, int64."""
  # Searching in ascending order makes better use of the processor's cache.
  return np.searchsorted(ordered, thresholds[::-1])[::-1]


def tpr_at_fpr(roc: Roc, fpr: float) -> float:
  """Returns the true positive rate at a false positive rate.

  The rate is interpolated linearly between points of the curve; where the curve
  is vertical, the highest value counts.

  Args:
    roc: The curve; if thinned, the result is as exact as its spacing.
    fpr: False positive rate, 0 to 1.
  """
  after = np.searchsorted(roc.fpr, fpr, side='right')
  if after == roc.fpr.size:
    return float(roc.tpr[-1])
  near = np.s_[after - 1 : after + 1]
  return float(np.interp(fpr, roc.fpr[near], roc.tpr[near]))


def thin(roc: Roc, points: int = 500) -> Roc:
  """Keeps at most `points` points of a curve, for plotting and for files.

  Half of them are spread evenly over the true positive rate and half over the
  logarithm of the false positive rate, so that the left edge stays sharp.

  Args:
    roc: The exact curve.
    points: Maximum number of points, at least 4.

  Returns:
    A subset of the points of `roc`, including its ends, with its exact area.
  """
  if roc.fpr.size <= points:
    return roc
  half = points // 2
  lowest = roc.fpr[np.searchsorted(roc.fpr, 0, side='right')]
  chosen = np.union1d(
    np.searchsorted(roc.tpr, np.linspace(0, 1, half)),
    np.searchsorted(roc.fpr, np.geomspace(lowest, 1, half - 1)),
  )
  chosen = np.union1d(chosen, roc.fpr.size - 1)
  return Roc(roc.fpr[chosen], roc.tpr[chosen], roc.thresholds[chosen], roc.auc)
