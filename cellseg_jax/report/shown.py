"""Images as a page shows them: pictures, with outlines to be laid over."""

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

# Longer sides in pixels: of an image, a thumbnail and a cell's surroundings.
IMAGE, THUMBNAIL, ZOOM = 768, 320, 240
# Side of a cell's surroundings, in sides of its box, and the least in pixels.
_AROUND, _LEAST_AROUND = 2.2, 48


def bright(image: np.ndarray) -> np.ndarray:
  """Returns an image in grey, 0 to 1, with its faint parts to be seen."""
  return grey(image) ** 0.7


def thumbnail(labelled: LabelledImage) -> dict[str, Any]:
  """Returns a training image, small, with the outlines of its labels.

  Where its labels do not count, the picture is darker.
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
  """Returns all that is shown of a validation image.

  Args:
    look: The image.
    table: Of its labels and found cells.
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
  """Returns the surroundings of a cell, with its outline and the found ones."""
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
  """A square around a cell, moved to lie within the image."""
  extent = max(part.stop - part.start for part in box)
  side = min(round(max(_AROUND * extent, _LEAST_AROUND)), *shape)
  starts = [
    min(max((part.start + part.stop - side) // 2, 0), length - side)
    for part, length in zip(box, shape, strict=True)
  ]
  rows, columns = (slice(start, start + side) for start in starts)
  return rows, columns
