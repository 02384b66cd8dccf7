"""Pictures of labelled images for the report, with outlines as overlays."""

from typing import Any

import numpy as np

from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation.error_pictures import kinds, OF_PREDICTED
from cellseg_jax.evaluation.figures import composite
from cellseg_jax.evaluation.look import Look
from cellseg_jax.evaluation.matching import (
  count_matches,
  f1,
  OverlapTable,
)
from cellseg_jax.images.labels import renumbered
from cellseg_jax.images.pictures import grey
from cellseg_jax.report import encode
from cellseg_jax.report.measures import areas_of, Cell, diameters

# Maximum longer sides, in pixels, of an image, a thumbnail and a zoomed cell.
IMAGE, THUMBNAIL, ZOOM = 768, 320, 240
# Side of a cell's surroundings: in longer sides of its bounding box, and the
# minimum in pixels.
_AROUND, _LEAST_AROUND = 2.2, 48


def bright(image: np.ndarray) -> np.ndarray:
  """Returns an image in grey, 0 to 1, with faint structures brightened."""
  return grey(image) ** 0.7


def thumbnail(labelled: LabelledImage) -> dict[str, Any]:
  """Returns what the page shows of a training image.

  A small picture with the outlines of its labels, darker where pixels are not
  valid, and numbers.
  """
  labels = np.where(labelled.valid, labelled.labels, 0)
  scale = encode.Scale.fitting(labels.shape, THUMBNAIL)
  picture = bright(labelled.image) * np.where(labelled.valid, 1, 0.35)
  shown = scale.labels(labels)
  areas = areas_of(labels)
  return {
    'name': labelled.name,
    'size': labels.shape,
    'cells': areas.size,
    'diameter': float(np.median(diameters(areas))) if areas.size else None,
    'partly': not labelled.valid.all(),
    'shown': scale.shown,
    'picture': encode.jpeg(scale.values(picture)),
    'outlines': encode.outline_path(shown, np.unique(shown[shown > 0])),
  }


def image(look: Look, table: OverlapTable) -> dict[str, Any]:
  """Returns what the page shows of a validation image.

  Pictures, outlines by kind of error, and scores.

  Args:
    look: The image and its segmentation.
    table: Overlaps of its labels and found cells.
  """
  scale = encode.Scale.fitting(look.true.shape, IMAGE)
  true, found = scale.labels(look.true), scale.labels(look.found)
  by_kind = kinds(table)
  return {
    'name': look.name,
    'f1': f1(count_matches(table))[0.5],
    'true': table.true_labels.size,
    'found': table.predicted_labels.size,
    'shown': scale.shown,
    'factor': scale.shown[0] * scale.shown[1] / look.true.size,
    'picture': encode.jpeg(scale.values(bright(look.image))),
    'probability': encode.probability_png(scale.values(look.probability)),
    'composite': encode.jpeg(
      scale.values(composite(look.image, look.probability))
    ),
    'labels': encode.labels_png(renumbered(true)[0], scale.labels(look.valid)),
    'outlines': {
      kind: encode.outline_path(found if kind in OF_PREDICTED else true, values)
      for kind, values in by_kind.items()
    },
    'kinds': {kind: values.size for kind, values in by_kind.items()},
  }


def zoom(look: Look, cell: Cell) -> dict[str, Any]:
  """Returns what the page shows of a cell: its surroundings, with outlines.

  Args:
    look: The image and its segmentation.
    cell: The cell.
  """
  box = _around(cell.box, look.true.shape)
  own = look.found if cell.kind in OF_PREDICTED[1:] else look.true
  found = look.found[box]
  others = np.setdiff1d(found, [0, cell.label] if own is look.found else [0])
  scale = encode.Scale.fitting(found.shape, ZOOM)
  return {
    'name': look.name,
    'kind': cell.kind,
    'iou': cell.iou,
    'area': cell.area,
    'size': found.shape,
    'picture': encode.jpeg(scale.values(bright(look.image)[box])),
    'own': encode.outline_path(own[box], [cell.label]),
    'others': encode.outline_path(found, others),
  }


def _around(
  box: tuple[slice, slice], shape: tuple[int, ...]
) -> tuple[slice, slice]:
  """Returns a square around a bounding box, moved to lie inside the image."""
  extent = max(part.stop - part.start for part in box)
  side = min(round(max(_AROUND * extent, _LEAST_AROUND)), *shape)
  starts = [
    min(max((part.start + part.stop - side) // 2, 0), length - side)
    for part, length in zip(box, shape, strict=True)
  ]
  rows, columns = (slice(start, start + side) for start in starts)
  return rows, columns
