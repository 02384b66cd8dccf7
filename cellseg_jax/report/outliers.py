"""Which segmented images are unlike the others."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Robust standard deviations from the median at which something is remarked
# (Iglewicz & Hoaglin, 1993, recommend 3.5).
LIMIT = 3.5
# Images, and cells, below which there is no comparing.
LEAST_IMAGES, LEAST_CELLS = 5, 20
# Least spreads: of the logarithm of areas and of mean confidences. What varies
# less than this does not make the others remarkable.
_LEAST_LOG_AREA, _LEAST_CONFIDENCE = 0.25, 0.03


class Cells(NamedTuple):
  """The cells of one image.

  Attributes:
    labels: Their values, int64 (n,).
    areas: In pixels, (n,).
    confidence: 0 to 1, (n,).
  """

  labels: np.ndarray
  areas: np.ndarray
  confidence: np.ndarray


class Remarks(NamedTuple):
  """What is odd about an image.

  Attributes:
    score: Robust standard deviations of the oddest; 0 where nothing is.
    reasons: A text for each oddity.
    huge: Labels of cells that are too large.
  """

  score: float
  reasons: tuple[str, ...]
  huge: tuple[int, ...]


def remark(images: Sequence[Cells]) -> list[Remarks]:
  """Compares the images of a batch with one another.

  An image is remarked for few or many cells, for cells of low confidence, and
  for huge ones, compared with the median of all; spreads are 1.4826 times the
  median absolute deviation, and at least what counting alone makes.

  Args:
    images: Their cells.

  Returns:
    As many remarks, in the same order.
  """
  found: list[list[tuple[float, str]]] = [[] for _ in images]
  if len(images) >= LEAST_IMAGES:
    _remark_counts(images, found)
    _remark_confidence(images, found)
  huge = _remark_sizes(images, found)
  return [
    Remarks(
      max((score for score, _ in one), default=0.0),
      tuple(reason for _, reason in sorted(one, reverse=True)),
      tuple(large),
    )
    for one, large in zip(found, huge, strict=True)
  ]


def _remark_counts(
  images: Sequence[Cells], found: list[list[tuple[float, str]]]
) -> None:
  counts = np.array([one.labels.size for one in images])
  # Anscombe's transform: counts of any size have a spread of 1 or more.
  steady = 2 * np.sqrt(counts + 0.375)
  middle, spread = _robust(steady, 1.0)
  for one, count, value in zip(found, counts, steady, strict=True):
    score = float(abs(value - middle) / spread)
    if score > LIMIT:
      word = 'few' if value < middle else 'many'
      usual = f'{np.median(counts):g}'
      one.append((score, f'{word} cells: {count}, where the median is {usual}'))


def _remark_confidence(
  images: Sequence[Cells], found: list[list[tuple[float, str]]]
) -> None:
  means = np.array(
    [one.confidence.mean() if one.labels.size else np.nan for one in images]
  )
  if np.isnan(means).all():
    return
  middle, spread = _robust(means[~np.isnan(means)], _LEAST_CONFIDENCE)
  for one, mean in zip(found, means.tolist(), strict=True):
    score = (middle - mean) / spread
    if score > LIMIT:  # Not so for NaN.
      text = (
        f'low confidence: {mean:.2f} on average, where the median image has'
      )
      one.append((score, f'{text} {middle:.2f}'))


def _remark_sizes(
  images: Sequence[Cells], found: list[list[tuple[float, str]]]
) -> list[list[int]]:
  """Returns the labels of the huge cells of each image."""
  areas = np.concatenate([np.zeros(0), *(one.areas for one in images)])
  if areas.size < LEAST_CELLS:
    return [[] for _ in images]
  middle, spread = _robust(np.log(areas), _LEAST_LOG_AREA)
  huge = []
  for remarks, one in zip(found, images, strict=True):
    scores = (np.log(one.areas) - middle) / spread
    large = scores > LIMIT
    huge.append(one.labels[large].tolist())
    if large.any():
      factor = one.areas.max() / np.exp(middle)
      remarks.append(
        (
          float(scores.max()),
          f'{large.sum()} huge: the largest cell has {one.areas.max():,.0f} '
          f'pixels, {factor:.1f} times the median',
        )
      )
  return huge


def _robust(values: np.ndarray, least: float) -> tuple[float, float]:
  """Median, and spread as a standard deviation, at least `least`."""
  middle = float(np.median(values))
  spread = 1.4826 * float(np.median(np.abs(values - middle)))
  return middle, max(spread, least)
