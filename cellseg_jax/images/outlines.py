"""Outlines of the cells in a label image, as pixels and as polygons.

Used for pictures, ImageJ ROIs, GeoJSON and the report.
"""

import numpy as np
from skimage.measure import label as label_pieces

# The outline of a cell: polygons, each a list of closed rings, the outer ring
# first and then its holes; a ring is int (N, 2), its corners as x, y.
Polygons = list[list[np.ndarray]]


def boundary(labels: np.ndarray) -> np.ndarray:
  """Marks cell pixels that share a side with another label, bool (H, W)."""
  padded = np.pad(labels, 1, mode='edge')
  inner = padded[1:-1, 1:-1]
  differs = np.zeros(labels.shape, bool)
  for other in (
    padded[:-2, 1:-1],
    padded[2:, 1:-1],
    padded[1:-1, :-2],
    padded[1:-1, 2:],
  ):
    differs |= other != inner
  return differs & (inner != 0)


def polygons(labels: np.ndarray) -> dict[int, Polygons]:
  """Finds polygons that cover exactly the pixels of each cell.

  Their corners are pixel corners: the first pixel of an image spans 0 to 1 in x
  and y. Every polygon is one 4-connected component; components that meet only
  at a corner are separate polygons. All are simple in the sense of OGC
  06-103r4: no ring crosses or touches itself.

  Args:
    labels: Integers (H, W); 0 is background, labels need not be consecutive.

  Returns:
    The polygons of each label, in increasing order of the labels.
  """
  pieces = label_pieces(labels, background=0, connectivity=1)
  # Rings are found in reading order, and the first pixel of a piece lies on its
  # outer ring, so the outer ring of each piece comes first.
  of_piece: dict[int, list[np.ndarray]] = {}
  of_label: dict[int, Polygons] = {}
  for ring, (y, x) in _rings(np.pad(pieces, 1)):
    piece = int(pieces[y, x])
    if piece not in of_piece:
      of_piece[piece] = []
      of_label.setdefault(int(labels[y, x]), []).append(of_piece[piece])
    of_piece[piece].append(ring)
  return dict(sorted(of_label.items()))


def _rings(pieces: np.ndarray) -> list[tuple[np.ndarray, tuple[int, int]]]:
  """Traces the rings along the borders of all pieces.

  Args:
    pieces: Integers (H + 2, W + 2), 0 in a frame one pixel wide.

  Returns:
    For every ring, its corners, in the direction that has the piece on the
    right (y points down), and row and column of a pixel of the piece. The frame
    does not count in the coordinates.
  """
  width = pieces.shape[1]
  pixel, side, successor = _sides(pieces)
  steps = successor.tolist()
  seen = bytearray(len(steps))
  y, x = np.divmod(pixel, width)
  # Start of side 0 to 3 (up, right, down, left) of each pixel.
  start_x = x - 1 + np.isin(side, (1, 2))
  start_y = y - 1 + np.isin(side, (2, 3))
  rings = []
  for start in range(len(steps)):
    if seen[start]:
      continue
    way, at = [], start
    while not seen[at]:
      seen[at] = 1
      way.append(at)
      at = steps[at]
    ring = np.array(way)
    ring = ring[side[ring] != np.roll(side[ring], 1)]
    corners = np.stack([start_x[ring], start_y[ring]], axis=-1)
    rings.append((corners, (int(y[start]) - 1, int(x[start]) - 1)))
  return rings


def _sides(
  pieces: np.ndarray,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
  """Lists the pixel sides that border another piece or background.

  Returns:
    For every side, in reading order of the pixels: the index of the pixel in
    the flattened image, the direction of the side (0 to 3: up, right, down,
    left), and the index in this list of the side that follows it around the
    piece.
  """
  width = pieces.shape[1]
  flat = pieces.ravel()
  inside = np.flatnonzero(flat)
  outward = np.array([-width, 1, width, -1])
  sides = np.sort(
    np.concatenate(
      [
        4 * inside[flat[inside + step] != flat[inside]] + direction
        for direction, step in enumerate(outward)
      ]
    )
  )
  pixel, side = np.divmod(sides, 4)
  ahead = pixel + outward[(side + 1) % 4]
  beyond = ahead + outward[side]
  # A piece that meets itself at a corner is taken as connected there, or its
  # ring would touch itself.
  turns_out = flat[beyond] == flat[pixel]
  goes_on = flat[ahead] == flat[pixel]
  following = np.select(
    [turns_out, goes_on],
    [4 * beyond + (side - 1) % 4, 4 * ahead + side],
    4 * pixel + (side + 1) % 4,
  )
  return pixel, side, np.searchsorted(sides, following)
