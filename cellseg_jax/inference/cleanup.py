"""What every decoder's label images undergo: holes, specks and the rim."""

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
  """A label image as pieces, and the label of each piece.

  Attributes:
    pieces: The piece of every pixel; 0 is background.
    label: The label of each piece, int32 (pieces + 1,); 0 is background.
    area: Pixels of each label, int64 (n + 1,); that of 0 is not counted.
  """

  pieces: Numbered
  label: np.ndarray
  area: np.ndarray

  def framed(self, box: Box, frame: int) -> np.ndarray:
    """Returns the labels of a block as `blocks.read_framed` does."""
    return np.take(self.label, read_framed(self.pieces, box, frame))

  def grown(self, box: Box, rim: int) -> np.ndarray:
    """Returns the labels of a block, int32 (h, w), each grown by `rim` pixels.

    Cells grow into background as `skimage.segmentation.expand_labels` makes
    them; they may come to touch and never merge.
    """
    labels = _grow(self.framed(box, rim), rim)
    return labels[rim : labels.shape[0] - rim, rim : labels.shape[1] - rim]

  def kept(self, keep: np.ndarray) -> 'Labels':
    """Returns the labels where `keep`, bool (n,), numbered anew from 1."""
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
  """Fills holes, drops specks and numbers the cells.

  A hole is background that one cell alone encloses; a cell inside another's
  hole stays a cell.

  Args:
    labels: The cells; what their pieces are kept in may be written over.
    boxes: The blocks to look at, as `blocks.cut` makes them.
    new_labels: Makes an int32 (H, W) array of zeros; called at most once.
    min_area: Fewest pixels of a cell, counted after its holes are filled.
    fill_holes: Whether to fill the holes of each cell.
    each: Looks at the blocks.

  Returns:
    The cells that are left, in their order before.
  """
  before, occupied = labels.pieces.image, False
  if fill_holes:
    labels, occupied = _fill_holes(labels, boxes, new_labels(), each)
  keep = labels.area[1:] >= min_area
  labels = labels.kept(keep)
  if occupied and not keep.all():  # Perhaps by specks that are now gone.
    labels, _ = _fill_holes(labels, boxes, before, each)
  return labels


def _fill_holes(
  labels: Labels, boxes: Sequence[Box], store: Array, each: Each
) -> tuple[Labels, bool]:
  """Gives background that touches one label and no border to that label.

  Regions of background become pieces, in `store`. Also returns whether holes
  are left, since other labels lie in them.
  """
  shape = labels.pieces.shape

  def look(box: Box) -> tuple[Border, 'Regions']:
    framed = labels.framed(box, 1)
    # Regions connected by sides are complementary to background connected by
    # corners too: only then does a closed outline separate inside from outside.
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
  """What is known of n regions of background, each array (n,).

  Attributes:
    area: Pixels.
    lowest: Lowest label that touches one of them by a side.
    highest: Highest such label; 0 where there is none.
    open: Whether they reach the border of the image.
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
  """Measures the regions of a block.

  Args:
    labels: int32 (h + 2, w + 2), with the frame.
    background: The regions, from 1, int32 (h + 2, w + 2).
    count: Regions.
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
  """Decides which label fills the regions that are one.

  Args:
    regions: Of n regions.
    sets: For each the number of those it is one with, from 0, int (n,).
    count: Different numbers.
    area: As of `Labels`, before.

  Returns:
    The label that fills each set, or 0, int32 (count,); the areas then; and
    whether several labels enclose a set.
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
