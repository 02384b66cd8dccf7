"""Places where a label and a held-out prediction contradict each other.

Every labelled cell, and every predicted cell without a label, has a region: its
pixels and a margin around. They are ranked together by the loss that the labels
cost the network there, in all: how much more likely the model's own maps are
than the labels. By the mean of the region two cells under one label, on which
the foreground agrees, stay behind what models are unsure of: docs/studies.md
has the figures. NumPy only.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np
from scipy import ndimage

# Share of a predicted cell's pixels that labels must cover to be its label.
COVERED = 0.5
# Pixels around a cell that belong to its region: outlines differ here, and
# next to it lies what a label leaves out.
MARGIN = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
  """The pixels that are looked at for one cell.

  Attributes:
    kind: 'label', or 'unlabelled' for a predicted cell without a label.
    value: Of the cell in the label image, or in the predicted one.
    box: Rows and columns of its rectangle.
    inside: bool, the shape of the box: the cell and its margin.
    row: Of the cell's middle, in pixels.
    column: Likewise.
    area: The cell's pixels, without the margin.
  """

  kind: str
  value: int
  box: tuple[slice, slice]
  inside: np.ndarray
  row: float
  column: float
  area: int


@dataclasses.dataclass(frozen=True)
class Suspect:
  """A labelled cell, or a predicted one without a label.

  Attributes:
    image: Name of the image.
    kind: As a region has it.
    value: Likewise.
    loss: Weighted loss of its region, added up over the network's pixels.
    mean_loss: The same over the weight of the region.
    gradient_norm: Of that loss, by the parameters of the last layer.
    row: Of the cell's middle, in pixels of the image.
    column: Likewise.
    area: Its pixels in the image.
  """

  image: str
  kind: str
  value: int
  loss: float
  mean_loss: float
  gradient_norm: float
  row: float
  column: float
  area: int


def regions(
  labels: np.ndarray, predicted: np.ndarray, margin: int = MARGIN
) -> list[Region]:
  """Returns every labelled cell and every predicted cell without a label.

  A pixel of a predicted cell without a label belongs to that one alone, not
  also to a labelled cell beside it.

  Args:
    labels: int (H, W); 0 is background.
    predicted: int (H, W), the cells of a model that did not train on it.
    margin: Pixels around a cell.
  """
  alone = without_label(labels, predicted)
  taken = np.isin(predicted, alone) & (labels == 0)
  found = []
  for kind, cells, values in (
    ('label', labels, np.unique(labels[labels > 0])),
    ('unlabelled', np.where(taken, predicted, 0), alone),
  ):
    boxes = ndimage.find_objects(cells)
    for value in values:
      box = _grown(boxes[value - 1], margin)
      cell = cells[box] == value
      inside = ndimage.distance_transform_edt(~cell) <= margin
      if kind == 'label':
        inside &= cell | ~taken[box]
      corner = np.array([side.start for side in box])
      row, column = map(float, corner + np.argwhere(cell).mean(0))
      area = int(cell.sum())
      found.append(Region(kind, int(value), box, inside, row, column, area))
  return found


def measure(
  name: str,
  found: Sequence[Region],
  loss: np.ndarray,
  weight: np.ndarray,
  gradient_norms: np.ndarray,
) -> list[Suspect]:
  """Adds up what the labels cost in each region.

  Args:
    name: Of the image.
    found: Its regions.
    loss: Float (H, W), each pixel's loss.
    weight: Float (H, W), each pixel's weight; 0 where nobody labelled.
    gradient_norms: Float, one a region.

  Returns:
    In no order; regions without a pixel of weight are left out.
  """
  suspects = []
  for region, norm in zip(found, gradient_norms, strict=True):
    own = weight[region.box] * region.inside
    if own.sum() > 0:
      total = (own * loss[region.box]).sum()
      suspects.append(
        Suspect(
          image=name,
          kind=region.kind,
          value=region.value,
          loss=float(total),
          mean_loss=float(total / own.sum()),
          gradient_norm=float(norm),
          row=region.row,
          column=region.column,
          area=region.area,
        )
      )
  return suspects


def without_label(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
  """Returns the predicted cells that labels cover less than half of."""
  area = np.bincount(predicted.ravel())
  covered = np.bincount(predicted[labels > 0], minlength=area.size)
  alone = (area > 0) & (covered < COVERED * area)
  return np.flatnonzero(alone[1:]) + 1


def rank(suspects: Sequence[Suspect]) -> list[Suspect]:
  """Returns the suspects, those of the highest loss first."""
  return sorted(suspects, key=lambda suspect: -suspect.loss)


def _grown(box: tuple[slice, ...], margin: int) -> tuple[slice, slice]:
  rows, columns = (
    slice(max(s.start - margin, 0), s.stop + margin) for s in box
  )
  return rows, columns
