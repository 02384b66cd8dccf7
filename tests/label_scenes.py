"""Label images whose numbering has gaps and huge values."""

import numpy as np
from scipy import ndimage

# In this order, so that the order of labels is not that of places.
VALUES = np.array([0, 70_000, 3, 2**31 + 5, 900])


def noise(shape=(41, 53), seed=0):
  """Cells of many pieces and holes that meet at corners: the worst case."""
  random = np.random.default_rng(seed)
  return VALUES[random.integers(0, len(VALUES), shape)]


def blobs(shape=(90, 120), seed=0):
  """Some twenty smooth cells, some on the border, int64."""
  random = np.random.default_rng(seed)
  smooth = ndimage.gaussian_filter(random.standard_normal(shape), 3)
  cells, count = ndimage.label(smooth > smooth.std() / 2)
  values = random.choice(2**32 - 1, count, replace=False) + 1
  return np.append(0, values)[cells]


def tricky():
  """A ring with an island of the same label and another cell in it.

  Also a C whose ends meet at a corner, a cell of two pieces, one pixel and a
  cell that fills a corner of the image.
  """
  labels = np.zeros((30, 40), np.uint32)
  labels[3:16, 3:18] = 500
  labels[5:14, 5:16] = 0
  labels[7:9, 7:9] = 500
  labels[10:13, 9:14] = 12
  labels[20:26, 4:10] = 7
  labels[21:25, 5:9] = 0
  labels[20, 9] = labels[21, 9] = 0
  labels[21, 8] = 7
  labels[5:9, 25:30] = 80_000
  labels[9:12, 30:33] = 80_000
  labels[20:24, 20:25] = 80_000
  labels[15, 35] = 2**32 - 1
  labels[25:, 34:] = 4
  return labels


SCENES = {'noise': noise(), 'blobs': blobs(), 'tricky': tricky()}
