"""The case study's decoder: threshold, then connected components."""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

MAPS = ('foreground',)
CANDIDATES = {
  # From the middle outwards: of equals the first is chosen.
  'threshold': tuple(
    sorted((n / 20 for n in range(1, 20)), key=lambda t: abs(t - 0.5))
  )
}


def separate(
  maps: Mapping[str, np.ndarray], settings: Mapping[str, float]
) -> np.ndarray:
  """Labels the connected regions of high probability (Levine 2018, "Method").

  Pixels connect along their sides only, since cells that meet at a corner are
  more often two cells than one.

  Args:
    maps: `foreground`, the probability of being cell, float (H, W), 0 to 1.
    settings: `threshold`: pixels above it are cell.

  Returns:
    int32 (H, W); 1 to n are the regions in reading order.
  """
  labels, _ = ndimage.label(maps['foreground'] > settings['threshold'])
  return labels
