"""Places where a label and a held-out prediction contradict each other.

Every labelled cell, and every predicted cell without a label, has a region: its
pixels and a margin around. They are ranked together by the loss that the labels
cost the network there, in all: how much more likely the model's own maps are
than the labels. By the mean of the region two cells under one label, on which
the foreground agrees, stay behind what models are unsure of: BUILD.md has the
figures. NumPy only.
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


@dataclasses.dataclass(frozen=True)
class Suspect:
  """A labelled cell, or a predicted one without a label.

  Attributes:
    image: Name of the image.
    kind: 'label', or 'unlabelled' for a predicted cell without a label.
    value: Of the cell in the label image, or in the predicted one.
    loss: Weighted loss of its region, added up over the network's pixels.
    mean_loss: The same over the weight of the region.
    row: Of the cell's middle, in pixels of the image.
    column: Likewise.
    area: Its pixels in the image.
  """

  image: str
  kind: str
  value: int
  loss: float
  mean_loss: float
  row: float
  column: float
  area: int


def find_suspects(
  name: str,
  labels: np.ndarray,
  predicted: np.ndarray,
  loss: np.ndarray,
  weight: np.ndarray,
  margin: int = MARGIN,
) -> list[Suspect]:
  """Measures every labelled cell and every predicted cell without a label.

  A pixel of a predicted cell without a label counts for that one alone, not
  also for a labelled cell beside it.

  Args:
    name: Of the image.
    labels: int (H, W); 0 is background.
    predicted: int (H, W), the cells of a model that did not train on it.
    loss: Float (H, W), each pixel's loss.
    weight: Float (H, W), each pixel's weight; 0 where nobody labelled.
    margin: Pixels around a cell.

  Returns:
    In no order; cells without a pixel of weight are left out.
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
      region = ndimage.distance_transform_edt(~cell) <= margin
      if kind == 'label':
        region &= cell | ~taken[box]
      own = weight[box] * region
      if own.sum() > 0:
        total = (own * loss[box]).sum()
        corner = np.array([side.start for side in box])
        middle = corner + np.argwhere(cell).mean(0)
        found.append(
          Suspect(
            image=name,
            kind=kind,
            value=int(value),
            loss=float(total),
            mean_loss=float(total / own.sum()),
            row=float(middle[0]),
            column=float(middle[1]),
            area=int(cell.sum()),
          )
        )
  return found


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
