"""The table of cells: the measurements of every cell and their units."""

from collections.abc import Mapping
import dataclasses
import math

import numpy as np
from skimage.measure import regionprops_table

from cellseg_jax.images.labels import check_confidence, on_border, renumbered

Table = Mapping[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class Column:
  """A column of the table.

  Attributes:
    name: Name in the header.
    kind: Type of the values: str, int, float or bool.
    unit: Unit of the values; empty if they have none.
    meaning: What the values are.
  """

  name: str
  kind: type
  unit: str
  meaning: str


_MIDDLE = 'the middle of the first pixel is 0'
_AXIS = 'axis of the ellipse with the same second moments'

# Columns of every table. Those in um are empty if the pixel size is unknown.
COLUMNS = (
  Column('file', str, '', 'the image file'),
  Column('frame', int, '', 'which frame of the file, from 0'),
  Column('label', int, '', 'the value of the pixels in the label image'),
  Column('centroid_y_px', float, 'pixel', f'row of the centroid; {_MIDDLE}'),
  Column('centroid_x_px', float, 'pixel', f'column of the centroid; {_MIDDLE}'),
  Column('box_top_px', int, 'pixel', 'first row of the bounding box'),
  Column('box_left_px', int, 'pixel', 'its first column'),
  Column('box_bottom_px', int, 'pixel', 'the row after its last'),
  Column('box_right_px', int, 'pixel', 'the column after its last'),
  Column('area_px', float, 'pixel', 'number of pixels'),
  Column('perimeter_px', float, 'pixel', 'length of the outline'),
  Column('major_axis_px', float, 'pixel', f'longer {_AXIS}'),
  Column('minor_axis_px', float, 'pixel', f'shorter {_AXIS}'),
  Column(
    'orientation',
    float,
    'radian',
    'angle from the downward y axis to the longer axis, counter-clockwise, '
    '-pi/2 to pi/2; in um where the pixels are not square',
  ),
  Column(
    'eccentricity',
    float,
    '',
    'of that ellipse, 0 (circle) to 1; in um where the pixels are not square',
  ),
  Column('solidity', float, '', 'area over the area of the convex hull'),
  Column('confidence', float, '', 'how sure the model is of the cell, 0 to 1'),
  Column('touches_border', bool, '', 'whether it has a pixel on the border'),
  Column('centroid_y_um', float, 'um', 'as centroid_y_px'),
  Column('centroid_x_um', float, 'um', 'as centroid_x_px'),
  Column('box_top_um', float, 'um', 'as box_top_px'),
  Column('box_left_um', float, 'um', 'as box_left_px'),
  Column('box_bottom_um', float, 'um', 'as box_bottom_px'),
  Column('box_right_um', float, 'um', 'as box_right_px'),
  Column('area_um2', float, 'um2', 'as area_px'),
  Column(
    'perimeter_um',
    float,
    'um',
    'as perimeter_px; empty where the pixels are not square',
  ),
  Column('major_axis_um', float, 'um', 'as major_axis_px'),
  Column('minor_axis_um', float, 'um', 'as minor_axis_px'),
)
# Columns of each channel; the first channel is c0.
_INTENSITIES = {
  'mean': 'mean intensity of the cell in the channel',
  'min': 'lowest intensity',
  'max': 'highest intensity',
  'integrated': 'sum of the intensities',
}
# From names of `skimage.measure.regionprops_table` to those of the columns.
_SHAPE = {
  'centroid-0': 'centroid_y_px',
  'centroid-1': 'centroid_x_px',
  'bbox-0': 'box_top_px',
  'bbox-1': 'box_left_px',
  'bbox-2': 'box_bottom_px',
  'bbox-3': 'box_right_px',
  'area': 'area_px',
  'perimeter': 'perimeter_px',
  'axis_major_length': 'major_axis_px',
  'axis_minor_length': 'minor_axis_px',
  'orientation': 'orientation',
  'eccentricity': 'eccentricity',
  'solidity': 'solidity',
}
_SCALED = {
  'axis_major_length': 'major_axis_um',
  'axis_minor_length': 'minor_axis_um',
  'orientation': 'orientation',
  'eccentricity': 'eccentricity',
}


def columns(channels: int) -> tuple[Column, ...]:
  """Returns the columns of a table for images with that many channels."""
  return COLUMNS + tuple(
    Column(f'{name}_intensity_c{channel}', float, 'as in the file', meaning)
    for channel in range(channels)
    for name, meaning in _INTENSITIES.items()
  )


def measure_cells(
  labels: np.ndarray,
  image: np.ndarray,
  confidence: np.ndarray,
  *,
  file: str,
  frame: int = 0,
  pixel_size: tuple[float, float] | None = None,
) -> dict[str, np.ndarray]:
  """Measures every cell of a label image.

  The shape measurements are those of `skimage.measure.regionprops_table`.

  Args:
    labels: Integers (H, W); 0 is background, labels need not be consecutive.
    image: Intensities to measure, (H, W) or (H, W, C).
    confidence: Confidence of each cell in increasing order of the labels, float
      (n,), 0 to 1.
    file: Value of the column `file`.
    frame: Value of the column `frame`.
    pixel_size: Height and width of a pixel in um; None if unknown.

  Returns:
    The columns of `columns(C)` by name and in that order, each (n,) with the
    cells in increasing order of their labels; unknown values are NaN.

  Raises:
    ValueError: Image or confidences do not fit the labels.
  """
  if image.shape[:2] != labels.shape or image.ndim not in (2, 3):
    raise ValueError(
      f'labels are of shape {labels.shape}, but the image is of '
      f'{image.shape}; both must have the same height and width'
    )
  cells, values = renumbered(labels)
  check_confidence(confidence, values)
  shapes = _properties(cells, _SHAPE)
  # File names may hold bytes that are not text; tables cannot.
  file = file.encode('utf-8', 'replace').decode()
  table = {
    'file': np.full(values.size, file, object),
    'frame': np.full(values.size, frame),
    'label': values.astype(np.int64),
    'confidence': confidence.astype(np.float64),
    'touches_border': np.isin(values, on_border(labels)),
    **shapes,
    **_in_um(cells, shapes, pixel_size),
    **_intensities(cells, values.size, image),
  }
  wanted = columns(1 if image.ndim == 2 else image.shape[2])
  return {
    column.name: np.asarray(
      table[column.name], object if column.kind is str else column.kind
    )
    for column in wanted
  }


def _properties(
  cells: np.ndarray,
  names: Mapping[str, str],
  spacing: tuple[float, float] = (1, 1),
) -> dict[str, np.ndarray]:
  """Measures shapes of cells 1 to n; `names` maps skimage's names to ours."""
  properties = dict.fromkeys(name.split('-')[0] for name in names)
  table = regionprops_table(
    cells, properties=tuple(properties), spacing=spacing
  )
  return {ours: table[name] for name, ours in names.items()}


def _in_um(
  cells: np.ndarray,
  shapes: Table,
  pixel_size: tuple[float, float] | None,
) -> dict[str, np.ndarray]:
  """Returns the columns in um, and others that need the true pixel shape."""
  y, x = pixel_size or (math.nan, math.nan)
  scaled = {
    'centroid_y_um': shapes['centroid_y_px'] * y,
    'centroid_x_um': shapes['centroid_x_px'] * x,
    'box_top_um': shapes['box_top_px'] * y,
    'box_left_um': shapes['box_left_px'] * x,
    'box_bottom_um': shapes['box_bottom_px'] * y,
    'box_right_um': shapes['box_right_px'] * x,
    'area_um2': shapes['area_px'] * y * x,
    'perimeter_um': shapes['perimeter_px'] * x,
    'major_axis_um': shapes['major_axis_px'] * x,
    'minor_axis_um': shapes['minor_axis_px'] * x,
  }
  # Pixel sizes in files are rounded or fractions, so equal sizes may differ.
  if pixel_size is None or math.isclose(y, x, rel_tol=1e-4):
    return scaled
  unknown = np.full_like(shapes['perimeter_px'], np.nan)
  true_shapes = _properties(cells, _SCALED, spacing=(y, x))
  return scaled | {'perimeter_um': unknown} | true_shapes


def _intensities(
  cells: np.ndarray, count: int, image: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns the intensity columns.

  All cells at once, which is many times faster than cell by cell.
  """
  inside = cells > 0
  cells = cells[inside] - 1
  areas = np.bincount(cells, minlength=count)
  table = {}
  channels = image[..., None] if image.ndim == 2 else image
  for channel in range(channels.shape[2]):
    values = channels[..., channel][inside].astype(np.float64)
    total = np.bincount(cells, values, count)
    low, high = np.full((2, count), [[np.inf], [-np.inf]])
    np.minimum.at(low, cells, values)
    np.maximum.at(high, cells, values)
    measured = (total / areas, low, high, total)
    for name, column in zip(_INTENSITIES, measured, strict=True):
      table[f'{name}_intensity_c{channel}'] = column
  return table
