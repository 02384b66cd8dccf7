"""Confidence of each cell, computed from the foreground and centre maps.

Intermediate sums can be combined over blocks with results that do not depend
on how the image is divided.
"""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Probabilities are rounded to whole multiples of this unit and summed in
# float64, which is exact for up to 2**26 pixels. The sum is then the same in
# any order, and so for any division of the image. The float32 values from 1/16
# to 1 are all exact multiples.
_UNIT = 2.0**-27


class Totals(NamedTuple):
  """Totals from which the confidence of n cells or cell pieces is computed.

  Attributes:
    area: Number of pixels, float64 (n,).
    foreground: Sum of the foreground probability, in multiples of 2**-27,
      float64 (n,).
    centre: Highest value of the centre map, (n,); 1 if there is no such map.
  """

  area: np.ndarray
  foreground: np.ndarray
  centre: np.ndarray


def confidence(
  labels: np.ndarray, maps: Mapping[str, np.ndarray]
) -> np.ndarray:
  """Returns the confidence of each cell, high for cells like those trained on.

  It is the mean foreground probability, which tells how sure the network is
  that the pixels belong to a cell, times the maximum of the centre map, if
  there is one, which tells how sure it is that they form one whole cell. For
  models trained on seven images of two data sets, the area under the ROC curve
  for cells that match a label was 0.942 and 0.955, against 0.918 and 0.944 with
  the mean alone.

  Args:
    labels: int32, any shape; 1 to n are the cells.
    maps: `foreground` and optionally `centre`, float, of the same shape, 0 to
      1.

  Returns:
    float32 (n,), 0 to 1, in the order of the labels; 0 for a label without
    pixels.
  """
  return from_totals(totals(labels, maps, int(labels.max(initial=0))))


def totals(
  labels: np.ndarray, maps: Mapping[str, np.ndarray], count: int
) -> Totals:
  """Accumulates the maps over each of `count` labels.

  Args:
    labels: int32, any shape; 1 to `count` are the cells.
    maps: `foreground` and optionally `centre`, float, of the same shape, 0 to
      1.
    count: Number of labels.
  """
  inside = labels > 0
  labels = labels[inside].astype(np.intp) - 1
  centre = np.ones(count)
  if 'centre' in maps:
    # `maximum.at` has a fast path only for intp indices and equal dtypes.
    centre = np.zeros(count, maps['centre'].dtype)
    np.maximum.at(centre, labels, maps['centre'][inside])
  return Totals(
    np.bincount(labels, minlength=count) * 1.0,
    np.bincount(labels, np.rint(maps['foreground'][inside] / _UNIT), count),
    centre,
  )


def combine(parts: Totals, whole: np.ndarray, count: int) -> Totals:
  """Combines the totals of pieces into those of cells.

  Args:
    parts: Totals of n pieces.
    whole: Index of each piece's cell, from 0, int (n,).
    count: Number of cells.
  """
  centre = np.zeros(count, parts.centre.dtype)
  np.maximum.at(centre, whole, parts.centre)
  return Totals(
    np.bincount(whole, parts.area, count),
    np.bincount(whole, parts.foreground, count),
    centre,
  )


def from_totals(parts: Totals) -> np.ndarray:
  """Returns the confidence of each cell, float32 (n,), 0 to 1."""
  mean = parts.foreground * _UNIT / np.maximum(parts.area, 1)
  return (mean * parts.centre).astype(np.float32)
