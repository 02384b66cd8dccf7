"""Pictures of what is right and wrong in a label image."""

import numpy as np
from scipy import ndimage

from cellseg_jax.evaluation.matching import overlap_table, OverlapTable
from cellseg_jax.evaluation.scores import find_errors
from cellseg_jax.images.outlines import boundary
from cellseg_jax.images.pictures import grey

# Okabe & Ito's palette, told apart by colour-blind readers too.
COLOURS = {
  'right': (0, 158, 115),
  'merged': (230, 159, 0),
  'split': (86, 180, 233),
  'missed': (213, 94, 0),
  'extra': (204, 121, 167),
  'inexact': (240, 228, 66),
}

# Kinds that are values of the predicted label image; the others of the true.
OF_PREDICTED = ('right', 'extra')


def kinds(table: OverlapTable) -> dict[str, np.ndarray]:
  """Sorts cells into the kinds of `COLOURS`.

  Args:
    table: Of true and predicted label images.

  Returns:
    Label values, increasing, by kind, later ones to be drawn over earlier.
    Right are predicted cells of IoU above 0.5, and inexact the true cells that
    have no such match and none of the other errors.
  """
  errors = find_errors(table)
  match = table.iou > 0.5
  explained = np.concatenate(
    [
      table.true_labels[table.true_index[match]],
      *(errors.merged, errors.split, errors.missed),
    ]
  )
  return {
    'inexact': np.setdiff1d(table.true_labels, explained),
    'right': table.predicted_labels[np.unique(table.predicted_index[match])],
    'extra': errors.extra,
    'merged': errors.merged,
    'split': errors.split,
    'missed': errors.missed,
  }


def draw_errors(
  true: np.ndarray, predicted: np.ndarray, image: np.ndarray | None = None
) -> np.ndarray:
  """Draws outlines of right, merged, split, missed and extra cells.

  Args:
    true: Integer label image, (H, W). Its merged, split and missed cells are
      outlined, and as inexact those that have no match above IoU 0.5 and none
      of these errors.
    predicted: Label image of the same shape. Its right cells, of IoU above
      0.5, and its extra ones are outlined.
    image: Intensities (H, W) or (H, W, C) to draw on, in any range; the mean
      of its channels, each stretched, is shown; None is black.

  Returns:
    uint8 (H, W, 3), in the colours of `COLOURS`.
  """
  picture = np.zeros((*true.shape, 3), np.uint8)
  if image is not None:
    picture[:] = (200 * grey(image))[..., None]
  for name, values in kinds(overlap_table(true, predicted)).items():
    labels = predicted if name in OF_PREDICTED else true
    shown = np.where(np.isin(labels, values), labels, 0)
    # Two pixels wide, to be seen when the picture is scaled down.
    outline = ndimage.binary_dilation(boundary(shown)) & (shown > 0)
    picture[outline] = COLOURS[name]
  return picture
