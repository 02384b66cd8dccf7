"""The `components` decoder: thresholds, then finds connected components.

This is the decoder of the case study (Levine 2018).
"""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from cellseg_jax.inference.pieces import Found

MAPS = ('foreground',)
CANDIDATES = {
  # From 0.5 outwards, because ties are decided in favour of the first.
  'threshold': tuple(
    sorted((n / 20 for n in range(1, 20)), key=lambda t: abs(t - 0.5))
  )
}


def find(
  maps: Mapping[str, np.ndarray], settings: Mapping[str, float]
) -> Found:
  """Finds connected regions of high foreground probability.

  Implements "Method" in Levine (2018). Connectivity is 4 (by pixel sides),
  because regions that meet only at a corner are more often two cells than one.

  Args:
    maps: `foreground`, the foreground probability, float (h + 2, w + 2), 0 to
      1, of a block with a frame of one pixel.
    settings: `threshold`: pixels above it belong to cells.

  Returns:
    The regions in the block and its frame.
  """
  labels, count = ndimage.label(maps['foreground'] > settings['threshold'])
  return Found(labels, None, count)
