"""Detection of segmented images that are unlike the others of a folder."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

# Number of robust standard deviations from the median beyond which a value is
# an outlier (Iglewicz & Hoaglin, 1993, recommend 3.5).
LIMIT = 3.5
# Minimum numbers of images and of cells for a comparison.
LEAST_IMAGES, LEAST_CELLS = 5, 20
# Minimum spreads of the logarithm of areas and of mean confidences: among very
# similar values, small deviations are not outliers.
_LEAST_LOG_AREA, _LEAST_CONFIDENCE = 0.25, 0.03


class Cells(NamedTuple):
  """The cells of one image.

  Attributes:
    labels: Labels of the cells, int64 (n,).
    areas: Areas in pixels, (n,).
    confidence: Confidences, 0 to 1, (n,).
  """

  labels: np.ndarray
  areas: np.ndarray
  confidence: np.ndarray


class Remarks(NamedTuple):
  """What is unusual about an image.

  Attributes:
    score: Largest deviation, in robust standard deviations; 0 if there is
      nothing unusual.
    reasons: A text for each outlying property, the largest deviation first.
    huge: Labels of unusually large cells.
  """

  score: float
  reasons: tuple[str, ...]
  huge: tuple[int, ...]


def remark(images: Sequence[Cells]) -> list[Remarks]:
  """Compares the images of a folder with one another.

  An image is unusual if it has few or many cells, a low mean confidence, or
  huge cells, compared with the medians over all images. Deviations are measured
  in robust standard deviations, 1.4826 times the median absolute deviation,
  with a minimum for each property. Counts and confidences are compared only
  from `LEAST_IMAGES` images on, sizes from `LEAST_CELLS` cells on.

  Args:
    images: The cells of each image.

  Returns:
    The remarks on each image, in the same order.
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
  # Anscombe's transform gives counts of any size a standard deviation of about
  # 1 from chance alone.
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
    if score > LIMIT:  # False for NaN, an image without cells.
      text = (
        f'low confidence: {mean:.2f} on average, where the median image has'
      )
      one.append((score, f'{text} {middle:.2f}'))


def _remark_sizes(
  images: Sequence[Cells], found: list[list[tuple[float, str]]]
) -> list[list[int]]:
  """Adds remarks on huge cells; returns their labels for each image."""
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
  """Returns the median and the robust standard deviation, at least `least`."""
  middle = float(np.median(values))
  spread = 1.4826 * float(np.median(np.abs(values - middle)))
  return middle, max(spread, least)
