"""Distance and centre maps: where a pixel lies in its cell.

The network predicts them so that touching cells can be separated. Both are 1 in
the middle of a cell and fall towards 0, whatever the cell's size. The distance
map falls to 0 at every border, so a valley runs between touching cells, but it
has several peaks in a cell of uneven width. The centre map has one peak in a
cell of any shape, however long or bent, but a shallow valley between two cells
side by side. Does not use JAX.
"""

import numpy as np
from scipy import ndimage
from skimage.graph import MCP_Geometric


def distance(cell: np.ndarray) -> np.ndarray:
  """Returns the distance to the border, over its maximum in the cell.

  This is the normalised "cell distance" of Scherr et al., PLoS ONE 2020.

  Args:
    cell: bool (H, W), one cell; the edge of the array is not a border of it.

  Returns:
    float32 (H, W), above 0 and up to 1 in the cell, 0 outside.
  """
  if cell.all():
    return np.ones(cell.shape, np.float32)
  depth = ndimage.distance_transform_edt(cell)
  return (depth / max(depth.max(), 1)).astype(np.float32)


def centre(cell: np.ndarray) -> np.ndarray:
  """Returns how close each pixel is to the cell's centre, within the cell.

  The value is one minus the length of the shortest path to the centre inside
  the cell, divided by one more than the longest such path (a geodesic form of
  the flows to the centre of Stringer et al., Nature Methods 2021). The centre
  is the pixel closest to the centroid among those with a distance map of at
  least 0.5.

  Args:
    cell: bool (H, W), one cell; pieces that are not connected to the centre
      stay 0.

  Returns:
    float32 (H, W), 0 to 1.
  """
  inner = np.argwhere(distance(cell) >= 0.5)
  middle = np.argwhere(cell).mean(0)
  start = inner[((inner - middle) ** 2).sum(1).argmin()]
  paths = MCP_Geometric(np.where(cell, 1.0, -1.0))
  length, _ = paths.find_costs([start])
  reached = np.isfinite(length) & cell
  longest = length[reached].max() + 1
  return np.where(reached, 1 - length / longest, 0).astype(np.float32)


SHAPE_MAPS = {'distance': distance, 'centre': centre}


def shape_map(labels: np.ndarray, name: str) -> np.ndarray:
  """Computes a distance or centre map for all cells of a label image.

  Args:
    labels: int (H, W); 0 is background.
    name: 'distance' or 'centre'.

  Returns:
    float32 (H, W), 0 in the background.
  """
  result = np.zeros(labels.shape, np.float32)
  for value, box in enumerate(ndimage.find_objects(labels), 1):
    if box is None:
      continue
    # With a margin of one pixel, except at the edge of the image.
    box = tuple(slice(max(s.start - 1, 0), s.stop + 1) for s in box)
    cell = labels[box] == value
    result[box][cell] = SHAPE_MAPS[name](cell)[cell]
  return result
