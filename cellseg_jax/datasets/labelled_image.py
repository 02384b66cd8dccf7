"""One labelled image, the unit that every data set is made of."""

import dataclasses

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImage:
  """An image with one label value a cell.

  Attributes:
    name: File stem or a made-up name; unique within a data set.
    image: Raw intensities, (H, W) for one channel, (H, W, C) for several, any
      integer or float dtype.
    labels: int32 (H, W); 0 is background, every other value is one cell.
    valid: bool (H, W); False where nobody labelled or where the labels are
      held out. Such pixels take no part in training or evaluation.
  """

  name: str
  image: np.ndarray
  labels: np.ndarray
  valid: np.ndarray
