"""Finds and ranks cells whose labels contradict a held-out prediction.

Every labelled cell, and every predicted cell without a label, has a region: its
pixels and a margin around them. The label audit ranks them together by the
summed loss of the labels there, which says how much more likely the model
considers its own maps than the labels. Ranked by mean loss, two cells under one
label, on which the foreground maps agree, would fall behind cells that the
model is merely unsure of (see docs/studies.md). Uses only NumPy and SciPy.
"""

from collections.abc import Sequence
import dataclasses

import numpy as np
from scipy import ndimage

# Share of a predicted cell's pixels that labels must cover for it to count as
# labelled.
COVERED = 0.5
# Width in pixels of the margin around a cell that belongs to its region. There
# the outlines of label and prediction differ, and there lies what a label
# leaves out.
MARGIN = 3


@dataclasses.dataclass(frozen=True, eq=False)
class Region:
  """The pixels over which the loss of one cell is summed.

  Attributes:
    kind: 'label', or 'unlabelled' for a predicted cell without a label.
    value: The cell's value in the label image or, if unlabelled, in the
      predicted one.
    box: Rows and columns of the region's bounding box.
    inside: The cell and its margin, bool, of the shape of the box.
    row: Mean row of the cell's pixels.
    column: Mean column of the cell's pixels.
    area: Number of the cell's pixels, without the margin.
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
  """A labelled cell, or a predicted one without a label, with its loss.

  `measure` returns row, column and area in pixels of the network's scale;
  `audit.suspects_of` converts them to pixels of the image.

  Attributes:
    image: Name of the image.
    kind: 'label', or 'unlabelled' for a predicted cell without a label.
    value: The cell's value in the label image or, if unlabelled, in the
      predicted one.
    loss: Weighted loss, summed over the region's pixels at the network's scale.
    mean_loss: `loss` divided by the region's total weight.
    gradient_norm: Norm of the gradient of `loss` by the last layer's
      parameters.
    row: Mean row of the cell's pixels.
    column: Mean column of the cell's pixels.
    area: Number of the cell's pixels.
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
  """Returns the regions of labelled cells and of predicted cells without label.

  An unlabelled pixel of a predicted cell without a label belongs to that cell's
  region, and not to the margin of a labelled cell beside it.

  Args:
    labels: Label image, int (H, W); 0 is background.
    predicted: Label image predicted by a model that was not trained on this
      image, int (H, W).
    margin: Width of the margin around a cell, in pixels.
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
  """Sums the loss of the labels over each region.

  Args:
    name: Name of the image.
    found: K regions of the image.
    loss: Each pixel's loss, float (H, W).
    weight: Each pixel's weight, float (H, W); 0 where nobody labelled.
    gradient_norms: Gradient norm of each region, float (K,).

  Returns:
    One suspect per region, in the order of the regions. Regions of total weight
    0 are left out.
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
  """Returns the predicted cells of which labels cover less than half.

  Args:
    labels: Label image, int (H, W); 0 is background.
    predicted: Predicted label image, int (H, W).

  Returns:
    Values of these cells in `predicted`, increasing.
  """
  area = np.bincount(predicted.ravel())
  covered = np.bincount(predicted[labels > 0], minlength=area.size)
  alone = (area > 0) & (covered < COVERED * area)
  return np.flatnonzero(alone[1:]) + 1


def rank(suspects: Sequence[Suspect]) -> list[Suspect]:
  """Returns the suspects sorted by loss, highest first."""
  return sorted(suspects, key=lambda suspect: -suspect.loss)


def _grown(box: tuple[slice, ...], margin: int) -> tuple[slice, slice]:
  rows, columns = (
    slice(max(s.start - margin, 0), s.stop + margin) for s in box
  )
  return rows, columns
