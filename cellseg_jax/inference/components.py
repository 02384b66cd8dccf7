"""The case study's decoder: threshold, then connected components."""

from collections.abc import Mapping

import numpy as np
from scipy import ndimage

from cellseg_jax.inference.pieces import Found

MAPS = ('foreground',)
CANDIDATES = {
  # From the middle outwards: of equals the first is chosen.
  'threshold': tuple(
    sorted((n / 20 for n in range(1, 20)), key=lambda t: abs(t - 0.5))
  )
}


def find(
  maps: Mapping[str, np.ndarray], settings: Mapping[str, float]
) -> Found:
  """Finds the connected regions of high probability (Levine 2018, "Method").

  Pixels connect along their sides only, since cells that meet at a corner are
  more often two cells than one.

  Args:
    maps: `foreground`, the probability of being cell, float (h + 2, w + 2), 0
      to 1, of a block and its frame.
    settings: `threshold`: pixels above it are cell.

  Returns:
    The regions in the block and its frame.
  """
  labels, count = ndimage.label(maps['foreground'] > settings['threshold'])
  return Found(labels, None, count)
