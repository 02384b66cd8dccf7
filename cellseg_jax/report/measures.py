"""Statistics of segmented labelled images: calibration, sizes, worst cells.

Computed from the `Look`s of validation images for the report of a run.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cellseg_jax.evaluation.error_pictures import kinds, OF_PREDICTED
from cellseg_jax.evaluation.look import Look
from cellseg_jax.evaluation.matching import overlap_table, OverlapTable
from cellseg_jax.images.labels import renumbered

BINS = 10


class Calibration(NamedTuple):
  """Calibration of the foreground probability, in `BINS` equal ranges.

  Attributes:
    predicted: Mean probability of the pixels in each range, (BINS,); NaN if
      there are none.
    observed: Share of these pixels that is labelled as cell, (BINS,); NaN if
      there are none.
    pixels: Number of pixels in each range, int64 (BINS,).
    error: Expected calibration error (Guo et al., ICML 2017): the mean absolute
      difference of the two, weighted by pixels.
  """

  predicted: np.ndarray
  observed: np.ndarray
  pixels: np.ndarray
  error: float


def calibration(looks: Sequence[Look]) -> Calibration:
  """Compares probabilities with the share of cell pixels.

  Only valid pixels count.
  """
  probability = np.concatenate([one.probability[one.valid] for one in looks])
  truth = np.concatenate([one.true[one.valid] > 0 for one in looks])
  place = np.minimum((probability * BINS).astype(int), BINS - 1)
  pixels = np.bincount(place, minlength=BINS)
  with np.errstate(invalid='ignore'):
    predicted = np.bincount(place, probability, BINS) / pixels
    observed = np.bincount(place, truth, BINS) / pixels
  distance = np.nan_to_num(np.abs(predicted - observed))
  return Calibration(
    predicted, observed, pixels, float(distance @ pixels / pixels.sum())
  )


def diameters(areas: np.ndarray) -> np.ndarray:
  """Returns the diameters of discs with these areas, in pixels."""
  return np.sqrt(4 * np.asarray(areas) / np.pi)


def areas_of(labels: np.ndarray) -> np.ndarray:
  """Returns the area of every cell in pixels, int64 (n,)."""
  return np.unique(labels[labels > 0], return_counts=True)[1]


class Sizes(NamedTuple):
  """Sizes of cells: diameters, in pixels, of discs with their areas.

  Attributes:
    true: Diameters of all labelled cells, (T,).
    found: Diameters of all found cells, (P,).
    pairs: Labelled and found diameters of cells that match with an IoU above
      0.5, (M, 2).
  """

  true: np.ndarray
  found: np.ndarray
  pairs: np.ndarray


def sizes(tables: Sequence[OverlapTable]) -> Sizes:
  """Collects the sizes of the cells in several images."""
  pairs = []
  for table in tables:
    match = table.iou > 0.5
    pairs.append(
      np.stack(
        [
          table.true_areas[table.true_index[match]],
          table.predicted_areas[table.predicted_index[match]],
        ],
        axis=-1,
      )
    )
  return Sizes(
    diameters(np.concatenate([table.true_areas for table in tables])),
    diameters(np.concatenate([table.predicted_areas for table in tables])),
    diameters(np.concatenate(pairs)),
  )


class Cell(NamedTuple):
  """A labelled cell, or an extra cell that was found, with its error.

  Attributes:
    look: Index of the image among the looks.
    label: Label of the cell: in the found cells if it is extra, else in the
      labels.
    kind: A kind of `evaluation.error_pictures.COLOURS`.
    iou: IoU with the best match; 0 if there is none or the cell is extra.
    area: Area in pixels.
    box: Rows and columns of the bounding box.
  """

  look: int
  label: int
  kind: str
  iou: float
  area: int
  box: tuple[slice, slice]


def worst_cells(
  looks: Sequence[Look], tables: Sequence[OverlapTable], most: int = 10
) -> list[Cell]:
  """Returns the cells with the lowest IoU; among equals, the largest first.

  Args:
    looks: The images.
    tables: The overlaps of labels and found cells of each image.
    most: Maximum number of cells.
  """
  cells = [
    cell
    for number, (one, table) in enumerate(zip(looks, tables, strict=True))
    for cell in _cells(number, one, table)
  ]
  return sorted(cells, key=lambda cell: (cell.iou, -cell.area))[:most]


def _cells(number: int, one: Look, table: OverlapTable) -> list[Cell]:
  """Returns all labelled cells of an image, and its extra cells."""
  best = np.zeros(table.true_labels.size)
  np.maximum.at(best, table.true_index, table.iou)
  sorted_by_kind = kinds(table)
  kind_of = {
    label: kind
    for kind, labels in sorted_by_kind.items()
    if kind not in OF_PREDICTED
    for label in labels.tolist()
  }
  rows = [
    (label, kind_of.get(label, 'right'), iou, area, box)
    for label, iou, area, box in zip(
      table.true_labels.tolist(),
      best.tolist(),
      table.true_areas.tolist(),
      _boxes(one.true),
      strict=True,
    )
  ]
  extra = set(sorted_by_kind['extra'].tolist())
  rows += [
    (label, 'extra', 0.0, area, box)
    for label, area, box in zip(
      table.predicted_labels.tolist(),
      table.predicted_areas.tolist(),
      _boxes(one.found),
      strict=True,
    )
    if label in extra
  ]
  return [Cell(number, *row) for row in rows]


def _boxes(labels: np.ndarray) -> list[tuple[slice, slice]]:
  """Returns the bounding box of every cell, in increasing order of labels."""
  return ndimage.find_objects(renumbered(labels)[0])


def tables_of(looks: Sequence[Look]) -> list[OverlapTable]:
  """Returns the overlaps of labels and found cells for each image."""
  return [overlap_table(one.true, one.found) for one in looks]
