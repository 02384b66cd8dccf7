"""Post-processing for all decoders: fill holes, drop specks, grow the rim.

Works block by block; parts of a hole in different blocks are joined at seams.
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from scipy import ndimage

from cellseg_jax.inference.blocks import (
  Array,
  Box,
  Each,
  in_turn,
  read_framed,
)
from cellseg_jax.inference.numbered import Numbered
from cellseg_jax.inference.seams import Border, border, Seams

_EIGHT_CONNECTED = np.ones((3, 3), bool)


class Labels(NamedTuple):
  """A label image stored as pieces, with the label of each piece.

  Attributes:
    pieces: The piece of every pixel; 0 is background.
    label: The label of each piece, int32 (pieces + 1,); 0 is background.
    area: Pixels of each label, int64 (n + 1,); the entry of background is not
      used.
  """

  pieces: Numbered
  label: np.ndarray
  area: np.ndarray

  def framed(self, box: Box, frame: int) -> np.ndarray:
    """Returns the labels of a block with a frame of `frame` pixels.

    Args:
      box: The block, of height h and width w.
      frame: Width of the frame in pixels; at least 0.

    Returns:
      int32 (h + 2 * frame, w + 2 * frame); 0 outside the image.
    """
    return np.take(self.label, read_framed(self.pieces, box, frame))

  def grown(self, box: Box, rim: int) -> np.ndarray:
    """Returns the labels of a block, int32 (h, w), each grown by `rim` pixels.

    Cells grow into background as in `skimage.segmentation.expand_labels`; they
    may end up touching but never merge.
    """
    labels = _grow(self.framed(box, rim), rim)
    return labels[rim : labels.shape[0] - rim, rim : labels.shape[1] - rim]

  def kept(self, keep: np.ndarray) -> 'Labels':
    """Drops the labels where `keep`, bool (n,), is False; renumbers from 1."""
    number = np.append(0, np.where(keep, np.cumsum(keep), 0)).astype(np.int32)
    area = np.append(0, self.area[1:][keep])
    return Labels(self.pieces, number[self.label], area)


def clean(
  labels: Labels,
  boxes: Sequence[Box],
  new_labels: Callable[[], Array],
  *,
  min_area: int,
  fill_holes: bool,
  each: Each = in_turn,
) -> Labels:
  """Fills holes, drops specks and renumbers the cells.

  A hole is background that a single cell encloses. A cell that lies in a hole
  of another stays a cell.

  Args:
    labels: The cells; the array that holds their pieces may be overwritten.
    boxes: The blocks to process, as returned by `blocks.cut`.
    new_labels: Returns a new int32 (H, W) array of zeros; called at most once.
    min_area: Smallest area of a cell in pixels, after its holes are filled.
    fill_holes: Whether to fill the holes of each cell.
    each: Processes the blocks.

  Returns:
    The remaining cells, in their previous order.
  """
  before, occupied = labels.pieces.image, False
  if fill_holes:
    labels, occupied = _fill_holes(labels, boxes, new_labels(), each)
  keep = labels.area[1:] >= min_area
  labels = labels.kept(keep)
  if occupied and not keep.all():  # Specks in those holes may now be gone.
    labels, _ = _fill_holes(labels, boxes, before, each)
  return labels


def _fill_holes(
  labels: Labels, boxes: Sequence[Box], store: Array, each: Each
) -> tuple[Labels, bool]:
  """Fills background regions that touch a single label and no image border.

  Args:
    labels: The cells.
    boxes: The blocks to process.
    store: Array to write pieces to, int32 (H, W); regions of background become
      pieces too.
    each: Processes the blocks.

  Returns:
    The labels, and whether holes remain because other labels lie in them.
  """
  shape = labels.pieces.shape

  def look(box: Box) -> tuple[Border, 'Regions']:
    framed = labels.framed(box, 1)
    # Background needs 8-connectivity where cells have 4-connectivity: only with
    # complementary rules does a closed outline separate inside from outside.
    background, regions = ndimage.label(framed == 0, _EIGHT_CONNECTED)
    block, region = framed[1:-1, 1:-1], background[1:-1, 1:-1]
    store[box.slices] = np.where(block > 0, block, -region)
    measured = _measure(framed, background, regions, box, shape)
    return border(box, background, shape), measured

  seams, parts, offsets = Seams(), [], []
  count, total = labels.area.size, 0
  for along, measured in each(look, boxes):
    seams.add(along, total)
    parts.append(measured)
    offsets.append(count + total - 1)
    total += measured.area.size
  united, sets = seams.sets(total)
  regions = Regions(*map(np.concatenate, zip(*parts, strict=True)))
  owner, area, occupied = _owners(regions, sets, united, labels.area)
  label = np.append(np.arange(count, dtype=np.int32), owner[sets])
  return Labels(Numbered(store, boxes[0].shape, offsets), label, area), occupied


class Regions(NamedTuple):
  """Properties of n regions of background; each array is (n,).

  Attributes:
    area: Number of pixels.
    lowest: Lowest label that shares a pixel side with the region; the largest
      value of the type if there is none.
    highest: Highest label that shares a pixel side with the region; 0 if there
      is none.
    open: Whether the region reaches the border of the image.
  """

  area: np.ndarray
  lowest: np.ndarray
  highest: np.ndarray
  open: np.ndarray


def _measure(
  labels: np.ndarray,
  background: np.ndarray,
  count: int,
  box: Box,
  shape: tuple[int, int],
) -> Regions:
  """Measures the background regions of a block.

  Args:
    labels: int32 (h + 2, w + 2), with the frame.
    background: The regions, from 1, int32 (h + 2, w + 2).
    count: Number of regions.
    box: The block.
    shape: Height and width of the image.
  """
  is_open = np.zeros(count + 1, bool)
  for side, outside in (
    (background[0], box.top == 0),
    (background[-1], box.bottom == shape[0]),
    (background[:, 0], box.left == 0),
    (background[:, -1], box.right == shape[1]),
  ):
    if outside:
      is_open[side] = True
  inner = background[1:-1, 1:-1]
  lowest = np.full(count + 1, np.iinfo(labels.dtype).max, labels.dtype)
  highest = np.zeros(count + 1, labels.dtype)
  cell, beside = labels > 0, np.zeros(labels.shape, bool)
  near = cell[:-2, 1:-1] | cell[2:, 1:-1] | cell[1:-1, :-2] | cell[1:-1, 2:]
  beside[1:-1, 1:-1] = near & ~cell[1:-1, 1:-1]
  pixels = np.flatnonzero(beside)
  region = background.ravel()[pixels]
  for step in (-labels.shape[1], -1, 1, labels.shape[1]):
    label = labels.ravel()[pixels + step]
    touching = label > 0
    np.minimum.at(lowest, region[touching], label[touching])
    np.maximum.at(highest, region[touching], label[touching])
  area = np.bincount(inner.ravel(), minlength=count + 1)
  return Regions(area[1:], lowest[1:], highest[1:], is_open[1:])


def _owners(
  regions: Regions, sets: np.ndarray, count: int, area: np.ndarray
) -> tuple[np.ndarray, np.ndarray, bool]:
  """Decides which label fills each set of connected regions.

  Args:
    regions: Properties of n regions.
    sets: The set of each region, from 0, int (n,).
    count: Number of sets.
    area: Pixels of each label before filling, as in `Labels`.

  Returns:
    The label that fills each set, or 0 if none does, int32 (count,); the area
    of each label after filling; and whether some set is enclosed by several
    labels.
  """
  lowest = np.full(count, np.iinfo(np.int32).max)
  highest = np.zeros(count, np.int32)
  is_open = np.zeros(count, bool)
  np.minimum.at(lowest, sets, regions.lowest)
  np.maximum.at(highest, sets, regions.highest)
  is_open[sets[regions.open]] = True
  owner = np.where(~is_open & (lowest == highest), highest, 0)
  filled = np.bincount(owner[sets], regions.area, area.size).astype(np.int64)
  filled[0] = 0
  return owner, area + filled, bool((~is_open & (lowest < highest)).any())


def _grow(labels: np.ndarray, rim: int) -> np.ndarray:
  """Assigns background within `rim` pixels of a label to the nearest label."""
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
  # The cell pixel nearest to a background pixel always lies on an outline, so
  # outlines suffice; a distance transform of the image would be far slower.
  source = np.flatnonzero(outline & ~empty)
  value = grown[source]
  for offset in _disc(rim, width):
    target = source + offset
    free = grown[target] == 0
    grown[target[free]] = value[free]
  return np.ascontiguousarray(padded[rim:-rim, rim:-rim])


def _disc(radius: int, width: int) -> np.ndarray:
  """Returns flat offsets of the pixels within `radius`, nearest first."""
  y, x = np.mgrid[-radius : radius + 1, -radius : radius + 1]
  distance = (y**2 + x**2).ravel()
  order = np.argsort(distance, kind='stable')
  return (y * width + x).ravel()[order[distance[order] <= radius**2]]
