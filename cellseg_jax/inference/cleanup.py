"""What every decoder's label images undergo: holes, specks and the rim."""

import numpy as np
from scipy import ndimage

_EIGHT_CONNECTED = np.ones((3, 3), bool)


def clean(
  labels: np.ndarray, *, min_area: int, fill_holes: bool, rim: int
) -> np.ndarray:
  """Fills holes, drops specks, grows the cells and numbers them.

  A hole is background that one cell alone encloses; a cell inside another's
  hole stays a cell.

  Args:
    labels: int32 (H, W); 0 is background, 1 to n are the cells.
    min_area: Fewest pixels of a cell, counted after its holes are filled and
      before the rim is added.
    fill_holes: Whether to fill the holes of each cell.
    rim: Distance in pixels by which every cell then grows into background, as
      `skimage.segmentation.expand_labels` does; cells may come to touch and
      never merge.

  Returns:
    int32 (H, W): 1 to n are the cells that are left, in their order before.
  """
  labels, keep = fill_and_drop(labels, min_area, fill_holes=fill_holes)
  numbers = np.where(keep, np.cumsum(keep), 0).astype(labels.dtype)
  return _grow(np.take(numbers, labels), rim)


def fill_and_drop(
  labels: np.ndarray, min_area: int, *, fill_holes: bool
) -> tuple[np.ndarray, np.ndarray]:
  """Fills holes and drops specks, as `clean`, but keeps the numbers.

  Args:
    labels: As for `clean`; numbers without a pixel may be among them.
    min_area: As for `clean`.
    fill_holes: As for `clean`.

  Returns:
    int32 (H, W), and which of the numbers from 0 to n are left, bool (n + 1,);
    0 is not.
  """
  count = int(labels.max(initial=0))
  occupied = False
  if fill_holes:
    labels, occupied = _fill_holes(labels, count)
  keep = np.bincount(labels.ravel(), minlength=count + 1) >= max(min_area, 1)
  keep[0] = False
  numbers = np.where(keep, np.arange(count + 1), 0).astype(labels.dtype)
  labels = np.take(numbers, labels)
  if occupied:  # Perhaps only by specks that have just been dropped.
    labels, _ = _fill_holes(labels, count)
  return labels, keep


def _fill_holes(labels: np.ndarray, count: int) -> tuple[np.ndarray, bool]:
  """Gives background that touches one label and no border to that label.

  Also returns whether holes are left, since other labels lie in them.
  """
  # Regions connected by sides are complementary to background connected by
  # corners too: only then does a closed outline separate inside from outside.
  background, regions = ndimage.label(labels == 0, _EIGHT_CONNECTED)
  enclosed = np.ones(regions + 1, bool)
  enclosed[0] = False
  for border in (np.s_[0], np.s_[-1], np.s_[:, 0], np.s_[:, -1]):
    enclosed[background[border]] = False
  if not enclosed.any():
    return labels, False
  pixels = np.flatnonzero(np.take(enclosed, background))
  width = labels.shape[1]
  neighbours = labels.ravel()[pixels[:, None] + [-width, -1, 1, width]]
  hole, side = np.nonzero(neighbours)
  region = background.ravel()[pixels].astype(np.int64)
  touching = np.unique(region[hole] * (count + 1) + neighbours[hole, side])
  region_of, label_of = np.divmod(touching, count + 1)
  owner = np.zeros(regions + 1, labels.dtype)
  owner[region_of] = label_of
  occupied = np.bincount(region_of, minlength=regions + 1) > 1
  owner[occupied] = 0
  filled = labels.copy()
  filled.ravel()[pixels] = owner[region]
  return filled, bool(occupied.any())


def _grow(labels: np.ndarray, rim: int) -> np.ndarray:
  """Gives background within `rim` pixels of a label to the nearest label."""
  if rim <= 0:
    return labels
  padded = np.pad(labels, rim)
  width = padded.shape[1]
  grown = padded.ravel()
  empty = grown == 0
  outline = np.zeros(grown.shape, bool)
  for step in (1, width):
    outline[step:] |= empty[:-step]
    outline[:-step] |= empty[step:]
  # The cell pixel nearest to background lies on an outline, so that a distance
  # transform of the whole image, many times slower, is not needed.
  source = np.flatnonzero(outline & ~empty)
  value = grown[source]
  for offset in _disc(rim, width):
    target = source + offset
    free = grown[target] == 0
    grown[target[free]] = value[free]
  return np.ascontiguousarray(padded[rim:-rim, rim:-rim])


def _disc(radius: int, width: int) -> np.ndarray:
  """Flat offsets of the pixels within `radius`, the nearest first."""
  y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
  distance = (y**2 + x**2).ravel()
  order = np.argsort(distance, kind='stable')
  return (y * width + x).ravel()[order[distance[order] <= radius**2]]
