"""How sure the network is of each cell."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np

# Probabilities are summed in whole multiples of this, and float64 adds those of
# 2**26 pixels without rounding: the sum is the same in any order, and so for
# any division of the image. All of float32 from 1/16 to 1 are such multiples.
_UNIT = 2.0**-27


class Totals(NamedTuple):
  """What the confidence of n cells, or pieces of cells, is computed from.

  Attributes:
    area: Pixels, float64 (n,).
    foreground: Sum of the foreground, in units, float64 (n,).
    centre: Highest value of the centre map, (n,); 1 where there is no such map.
  """

  area: np.ndarray
  foreground: np.ndarray
  centre: np.ndarray


def confidence(
  labels: np.ndarray, maps: Mapping[str, np.ndarray]
) -> np.ndarray:
  """Returns a value for each cell, high for cells as in training.

  The mean of the foreground tells how sure its pixels are cell; the highest
  value of the centre map, where there is one, how sure they are a whole one. On
  seven-image models of two sets, the area under the ROC of cells that match a
  label was 0.942 and 0.955 so, 0.918 and 0.944 with the mean alone.

  Args:
    labels: int32, any shape; 1 to n are the cells.
    maps: `foreground` and perhaps `centre`, float, the same shape, 0 to 1.

  Returns:
    float32 (n,), 0 to 1, in the order of the labels; 0 where there is no pixel.
  """
  return from_totals(totals(labels, maps, int(labels.max(initial=0))))


def totals(
  labels: np.ndarray, maps: Mapping[str, np.ndarray], count: int
) -> Totals:
  """Adds up the maps over each of `count` labels; see `confidence`."""
  inside = labels > 0
  labels = labels[inside].astype(np.intp) - 1
  centre = np.ones(count)
  if 'centre' in maps:
    # `maximum.at` is fast for indices and values of the types that it wants.
    centre = np.zeros(count, maps['centre'].dtype)
    np.maximum.at(centre, labels, maps['centre'][inside])
  return Totals(
    np.bincount(labels, minlength=count) * 1.0,
    np.bincount(labels, np.rint(maps['foreground'][inside] / _UNIT), count),
    centre,
  )


def combine(parts: Totals, whole: np.ndarray, count: int) -> Totals:
  """Adds up pieces to cells.

  Args:
    parts: Of n pieces.
    whole: Number of each piece's cell, from 0, int (n,).
    count: Cells.
  """
  centre = np.zeros(count, parts.centre.dtype)
  np.maximum.at(centre, whole, parts.centre)
  return Totals(
    np.bincount(whole, parts.area, count),
    np.bincount(whole, parts.foreground, count),
    centre,
  )


def from_totals(parts: Totals) -> np.ndarray:
  """Returns the confidence of each, float32 (n,)."""
  mean = parts.foreground * _UNIT / np.maximum(parts.area, 1)
  return (mean * parts.centre).astype(np.float32)
