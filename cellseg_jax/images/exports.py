"""Optional outputs of segmentation, in formats of other programs.

One function per format: overlay picture, probability map, ImageJ ROIs, GeoJSON
and COCO. Labels need not be consecutive, and files are written atomically.
"""

import json
import pathlib
import zipfile

import numpy as np
import roifile
from scipy import ndimage
import tifffile

from cellseg_jax.atomic import replacing
from cellseg_jax.images import formats
from cellseg_jax.images.cells import Table
from cellseg_jax.images.labels import check_confidence, renumbered
from cellseg_jax.images.outlines import Polygons, polygons
from cellseg_jax.images.pictures import overlay

# The largest coordinate of an ImageJ ROI (ij.io.RoiDecoder): it has 16 bits, of
# which the highest values stand for -1 to -5000.
_ROI_LIMIT = 60_535
# Codes of java.awt.geom.PathIterator, in which ImageJ writes composite ROIs.
_MOVE, _LINE, _CLOSE = 0, 1, 4


def write_overlay(
  path: str | pathlib.Path, image: np.ndarray, labels: np.ndarray
) -> None:
  """Writes the image with the outlines of its cells as a PNG file.

  Args:
    path: PNG file to write.
    image: Intensities in any range, (H, W) or (H, W, C).
    labels: Integers (H, W); 0 is background.
  """
  with replacing(path) as partial:
    formats.write_picture(partial, overlay(image, labels))


def write_probability(
  path: str | pathlib.Path,
  probability: np.ndarray,
  pixel_size: tuple[float, float] | None = None,
) -> None:
  """Writes the foreground probability as an ImageJ TIFF.

  Args:
    path: TIFF file to write.
    probability: Float (H, W), 0 to 1; written as float32.
    pixel_size: Height and width of a pixel in um; None if unknown.
  """
  metadata = {'axes': 'YX', 'min': 0.0, 'max': 1.0}
  resolution = None
  if pixel_size:
    y, x = pixel_size
    resolution = 1 / x, 1 / y
    metadata['unit'] = 'um'
  with replacing(path) as partial:
    tifffile.imwrite(
      partial,
      probability.astype(np.float32),
      imagej=True,
      compression='zlib',
      metadata=metadata,
      resolution=resolution,
    )


def write_rois(path: str | pathlib.Path, labels: np.ndarray) -> None:
  """Writes the cells as ImageJ ROIs, `0001.roi` for label 1, and so on.

  The ROIs cover exactly the pixels of the cells. A cell of one piece without
  holes becomes a traced outline, any other cell a composite ROI.

  Args:
    path: ZIP file to write, for ImageJ's ROI Manager.
    labels: Integers (H, W); 0 is background.

  Raises:
    ValueError: A side of the image exceeds the largest coordinate of a ROI.
  """
  if max(labels.shape) > _ROI_LIMIT:
    raise ValueError(
      f'{path}: ImageJ ROIs end at {_ROI_LIMIT} pixels, but the image is of '
      f'shape {labels.shape}; choose another format, such as GeoJSON'
    )
  with (
    replacing(path) as partial,
    zipfile.ZipFile(partial, 'w', zipfile.ZIP_DEFLATED) as archive,
  ):
    for label, outline in polygons(labels).items():
      name = f'{label:04d}'
      roi = _roi(outline, name)
      # With a fixed date, equal labels make equal files.
      entry = zipfile.ZipInfo(f'{name}.roi')
      archive.writestr(entry, roi.tobytes(), zipfile.ZIP_DEFLATED)


def write_geojson(
  path: str | pathlib.Path, labels: np.ndarray, table: Table
) -> None:
  """Writes the cells as GeoJSON (RFC 7946): detections for QuPath.

  Coordinates are in pixels from the upper left corner of the image, as in
  QuPath, and the polygons cover exactly the pixels of the cells.

  Args:
    path: File to write.
    labels: Integers (H, W); 0 is background.
    table: The table that `measure_cells` returns for these labels; its numbers
      become measurements (as QuPath 0.4 and later writes and reads them).

  Raises:
    ValueError: The table does not have the labels of the image.
  """
  outlines = polygons(labels)
  if table['label'].tolist() != list(outlines):
    raise ValueError(f'{path}: the table is not that of the label image')
  measured = {
    name: column.astype(float)
    for name, column in table.items()
    if column.dtype.kind in 'ifb' and name != 'label'
  }
  features = [
    {
      'type': 'Feature',
      'geometry': _geometry(outline),
      'properties': {
        'objectType': 'detection',
        'name': str(label),
        'measurements': {
          name: column[i].item()
          for name, column in measured.items()
          if np.isfinite(column[i])
        },
      },
    }
    for i, (label, outline) in enumerate(outlines.items())
  ]
  _write_json(path, {'type': 'FeatureCollection', 'features': features})


def write_coco(
  path: str | pathlib.Path,
  labels: np.ndarray,
  confidence: np.ndarray,
  file_name: str,
) -> None:
  """Writes the cells as COCO annotations with run-length encoded masks.

  Lin et al., ECCV 2014. The masks are uncompressed run lengths of the COCO API
  and cover exactly the pixels of the cells. The id of an annotation is the
  label of its cell.

  Args:
    path: JSON file to write.
    labels: Integers (H, W); 0 is background.
    confidence: Confidence of each cell in increasing order of the labels, float
      (n,), 0 to 1; becomes the `score` of its annotation.
    file_name: Name of the image in the file.

  Raises:
    ValueError: There are more or fewer confidences than labels.
  """
  cells, values = renumbered(labels)
  check_confidence(confidence, values)
  height, width = labels.shape
  image = {'id': 1, 'file_name': file_name, 'height': height, 'width': width}
  annotations = [
    {
      'id': int(values[i]),
      'image_id': 1,
      'category_id': 1,
      'iscrowd': 0,
      'score': round(float(confidence[i]), 6),
      **_segment(cells[box] == i + 1, box, labels.shape),
    }
    for i, box in enumerate(ndimage.find_objects(cells))
  ]
  categories = [{'id': 1, 'name': 'cell'}]
  _write_json(
    path,
    {'images': [image], 'annotations': annotations, 'categories': categories},
  )


def _roi(outline: Polygons, name: str) -> roifile.ImagejRoi:
  """Returns one cell as an ImageJ ROI."""
  rings = [ring for polygon in outline for ring in polygon]
  corners = np.concatenate(rings)
  left, top = corners.min(0).tolist()
  right, bottom = corners.max(0).tolist()
  box = {'left': left, 'top': top, 'right': right, 'bottom': bottom}
  if len(rings) == 1:
    return roifile.ImagejRoi(
      roitype=roifile.ROI_TYPE.TRACED,
      name=name,
      n_coordinates=len(corners),
      integer_coordinates=(corners - (left, top)).astype(np.int32),
      **box,
    )
  path: list[float] = []
  for ring in rings:
    for i, corner in enumerate(ring.tolist()):
      path += [_LINE if i else _MOVE, *corner]
    path.append(_CLOSE)
  return roifile.ImagejRoi(
    roitype=roifile.ROI_TYPE.RECT,
    name=name,
    shape_roi_size=len(path),
    multi_coordinates=np.array(path, np.float32),
    **box,
  )


def _geometry(outline: Polygons) -> dict[str, object]:
  """Returns one cell as a GeoJSON geometry, with explicitly closed rings."""
  coordinates = [
    [[*ring.tolist(), ring[0].tolist()] for ring in polygon]
    for polygon in outline
  ]
  if len(coordinates) == 1:
    return {'type': 'Polygon', 'coordinates': coordinates[0]}
  return {'type': 'MultiPolygon', 'coordinates': coordinates}


def _segment(
  cell: np.ndarray, box: tuple[slice, slice], shape: tuple[int, int]
) -> dict[str, object]:
  """Returns the bounding box, area and run lengths of a cell.

  Args:
    cell: Mask of the cell inside its bounding box, bool.
    box: Rows and columns of the bounding box.
    shape: Height and width of the image.
  """
  rows, columns = box
  x, y = np.nonzero(cell.T)  # Runs go down the columns.
  pixels = (x + columns.start) * shape[0] + y + rows.start
  gaps = np.flatnonzero(np.diff(pixels) > 1)
  starts = pixels[np.append(0, gaps + 1)]
  ends = pixels[np.append(gaps, -1)] + 1
  borders = np.stack([starts, ends], axis=-1).ravel()
  counts = np.diff(borders, prepend=0, append=shape[0] * shape[1])
  height, width = cell.shape
  return {
    'bbox': [columns.start, rows.start, width, height],
    'area': len(pixels),
    'segmentation': {'size': list(shape), 'counts': counts.tolist()},
  }


def _write_json(path: str | pathlib.Path, content: object) -> None:
  with replacing(path) as partial:
    partial.write_text(json.dumps(content, separators=(',', ':')) + '\n')
