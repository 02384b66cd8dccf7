"""Pictures of the errors in a predicted label image.

Used by `cellseg evaluate` and the report.
"""

import numpy as np
from scipy import ndimage

from cellseg_jax.evaluation.matching import overlap_table, OverlapTable
from cellseg_jax.evaluation.scores import find_errors
from cellseg_jax.images.outlines import boundary
from cellseg_jax.images.pictures import grey

# Okabe & Ito's palette, which colour-blind readers can distinguish too.
COLOURS = {
  'right': (0, 158, 115),
  'merged': (230, 159, 0),
  'split': (86, 180, 233),
  'missed': (213, 94, 0),
  'extra': (204, 121, 167),
  'inexact': (240, 228, 66),
}

# As people call them.
COLOUR_NAMES = {
  'right': 'green',
  'merged': 'orange',
  'split': 'light blue',
  'missed': 'red',
  'extra': 'pink',
  'inexact': 'yellow',
}

# Kinds that are labels of the predicted image; the others are of the true one.
OF_PREDICTED = ('right', 'extra')


def kinds(table: OverlapTable) -> dict[str, np.ndarray]:
  """Sorts cells into the kinds of `COLOURS`.

  Args:
    table: Overlaps of the true and the predicted label image.

  Returns:
    Labels by kind, increasing; later kinds are to be drawn over earlier ones.
    'right' are predicted cells that match a true cell with an IoU above 0.5,
    'inexact' true cells without such a match and without another error.
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
  """Draws the outlines of right, merged, split, missed and extra cells.

  Args:
    true: Integer label image, (H, W). Its merged, split and missed cells are
      outlined, and as inexact those without a match above IoU 0.5 and without
      one of these errors.
    predicted: Label image of the same shape. Its right cells, which match with
      an IoU above 0.5, and its extra cells are outlined.
    image: Intensities (H, W) or (H, W, C) to draw on, in any range; shown as
      the mean of its stretched channels. None draws on black.

  Returns:
    uint8 (H, W, 3), with outlines in the colours of `COLOURS`.
  """
  picture = np.zeros((*true.shape, 3), np.uint8)
  if image is not None:
    picture[:] = (200 * grey(image))[..., None]
  for name, values in kinds(overlap_table(true, predicted)).items():
    labels = predicted if name in OF_PREDICTED else true
    shown = np.where(np.isin(labels, values), labels, 0)
    # Two pixels wide, to stay visible when the picture is scaled down.
    outline = ndimage.binary_dilation(boundary(shown)) & (shown > 0)
    picture[outline] = COLOURS[name]
  return picture
