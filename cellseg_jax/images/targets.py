"""Training targets and pixel weights, computed from label images.

Does not use JAX.
"""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from cellseg_jax.config import TargetConfig
from cellseg_jax.images.shape_maps import shape_map


def resample_labels(labels: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
  """Resamples labels or a mask by nearest neighbour.

  Args:
    labels: (H, W) of any dtype.
    shape: New height and width.

  Returns:
    (*shape) of the same dtype.
  """
  rows, columns = (
    np.minimum(((np.arange(new) + 0.5) * old / new).astype(int), old - 1)
    for new, old in zip(shape, labels.shape, strict=True)
  )
  return labels[np.ix_(rows, columns)]


def cut_gap(labels: np.ndarray, gap: int) -> np.ndarray:
  """Sets to background the pixels within `gap` of another cell.

  Args:
    labels: int (H, W).
    gap: Distance in pixels; 0 changes nothing.

  Returns:
    int (H, W): touching cells are separated, their other borders unchanged.
  """
  height, width = labels.shape
  padded = np.pad(labels, gap)
  near = np.zeros(labels.shape, bool)
  for y in range(-gap, gap + 1):
    for x in range(-gap, gap + 1):
      if 0 < y * y + x * x <= gap * gap:
        other = padded[gap + y :, gap + x :][:height, :width]
        near |= (other != 0) & (other != labels)
  return np.where(near, 0, labels)


def edges(labels: np.ndarray, width: int) -> np.ndarray:
  """Marks the pixels within `width` pixels of a cell border.

  Args:
    labels: int (H, W).
    width: Pixels on either side of the border; 0 marks none.

  Returns:
    bool (H, W).
  """
  if width == 0:
    return np.zeros(labels.shape, bool)
  border = np.zeros(labels.shape, bool)
  vertical = labels[1:] != labels[:-1]
  horizontal = labels[:, 1:] != labels[:, :-1]
  border[1:] |= vertical
  border[:-1] |= vertical
  border[:, 1:] |= horizontal
  border[:, :-1] |= horizontal
  if not border.any():
    return border
  return ndimage.distance_transform_edt(~border) <= width - 1


def targets_and_weight(
  labels: np.ndarray,
  valid: np.ndarray,
  maps: Sequence[str],
  config: TargetConfig,
) -> tuple[np.ndarray, np.ndarray]:
  """Computes the training targets and the weight of every pixel.

  Pixels at cell edges get a higher weight (J. Levine 2018, "Method"; cf. the
  weight map of Ronneberger et al., MICCAI 2015). If the config asks for it, the
  foreground target is smoothed there ("label smoothing" of Szegedy et al., CVPR
  2016).

  Args:
    labels: int (H, W); 0 is background.
    valid: bool (H, W); pixels that are False get weight 0.
    maps: Names of the targets: 'foreground' or one of `SHAPE_MAPS`.
    config: Widths, edge weight and smoothing.

  Returns:
    Targets, float32 (H, W, M), 0 to 1, with a gap between touching cells; and
    weights, float32 (H, W).
  """
  parted = cut_gap(labels, config.gap)
  apart = cut_gap(labels, max(config.gap, config.valley))
  edge = edges(parted, config.edge_width)
  weight = np.where(edge, config.edge_weight, 1.0) * valid
  smoothing = config.edge_smoothing * edge
  targets = [
    (1 - smoothing) * (parted > 0) + smoothing / 2
    if name == 'foreground'
    else shape_map(apart, name)
    for name in maps
  ]
  return np.dstack(targets).astype(np.float32), weight.astype(np.float32)
