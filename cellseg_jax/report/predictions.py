"""The report on a folder of segmented files: `OUT/report/index.html`."""

from collections.abc import Sequence
import contextlib
import datetime
import pathlib
from typing import Any, NamedTuple

import numpy as np

from cellseg_jax.images import tables
from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.pictures import label_colours, overlay
from cellseg_jax.images.selection import select, Selection
from cellseg_jax.images.source import open_image
from cellseg_jax.inference.records import read_all, Record
from cellseg_jax.inside import inside
from cellseg_jax.report import charts, encode
from cellseg_jax.report.measures import diameters
from cellseg_jax.report.outliers import Cells, remark, Remarks
from cellseg_jax.report.page import safe, write_page
from cellseg_jax.report.run import PAGE
from cellseg_jax.report.shown import bright

# Maximum numbers of pictures in the page, which must stay small.
MOST_OUTLIERS, MOST_THUMBNAILS = 12, 120
# Longer sides of these pictures, in pixels, and about the longer side at which
# images are read.
_LARGE, _SMALL, _READ = 560, 240, 2048


class PredictionsError(ValueError):
  """A folder is not one that `cellseg segment` wrote."""


class Image(NamedTuple):
  """A segmented image: a frame of a file.

  Attributes:
    record: The record of the segmented file.
    frame: Index of the frame.
    frames: Number of frames in the file.
    cells: The cells that were found in it.
  """

  record: Record
  frame: int
  frames: int
  cells: Cells

  @property
  def name(self) -> str:
    """Name of the file, with the frame if there are several."""
    name = pathlib.Path(self.record.file).name
    return f'{name}, frame {self.frame}' if self.frames > 1 else name


def report_predictions(out: pathlib.Path) -> pathlib.Path:
  """Writes the report on a folder that `cellseg segment` wrote.

  Args:
    out: The folder. Images that are no longer where they were segmented are
      shown by their cells alone.

  Returns:
    Path of the page.

  Raises:
    PredictionsError: The folder holds no results of `cellseg segment`.
    OutsideError: `report` is a link that leads out of the folder.
    TableError, OSError: A file in the folder cannot be read, or the page cannot
      be written.
  """
  records = read_all(out)
  if not records:
    raise PredictionsError(
      f'{out}: nothing segmented here; give the folder that `cellseg segment` '
      'wrote, its --out'
    )
  images = [
    image
    for record in records
    if record.status == 'ok'
    for image in _images(out, record)
  ]
  remarks = remark([image.cells for image in images])
  odd = sorted(
    (number for number in range(len(images)) if remarks[number].score),
    key=lambda number: -remarks[number].score,
  )
  path = inside(out, PAGE)
  write_page(
    path,
    'predictions.html',
    title=out.resolve().name,
    made=f'{datetime.datetime.now():%d %B %Y, %H:%M}',
    files=len(records),
    images=len(images),
    failed=[record for record in records if record.status != 'ok'],
    warned=[record for record in records if record.warning],
    summary=_summary(images),
    odd=len(odd),
    outliers=[
      _outlier(out, images[number], remarks[number])
      for number in odd[:MOST_OUTLIERS]
    ],
    thumbnails=[
      _thumbnail(out, images[number])
      for number in [*odd, *(n for n in range(len(images)) if n not in odd)][
        :MOST_THUMBNAILS
      ]
    ],
  )
  return path


def _images(out: pathlib.Path, record: Record) -> list[Image]:
  """Returns the frames of a file with their cells."""
  parts = [path for path in record.outputs if path.startswith(tables.PARTS)]
  names = ('frame', 'label', 'area_px', 'confidence')
  table = tables.read_part(out / parts[0], names)
  with open_image(_labels_path(out, record)) as source:
    frames = int(np.prod(source.shape[:-2]))
  images = []
  for frame in range(frames):
    own = table['frame'] == frame
    values = (table[name][own] for name in names[1:])
    images.append(Image(record, frame, frames, Cells(*values)))
  return images


def _labels_path(out: pathlib.Path, record: Record) -> pathlib.Path:
  return out / record.outputs[-1]


def _summary(images: Sequence[Image]) -> dict[str, Any]:
  """Returns numbers and charts of cell counts, sizes and confidences."""
  cells = [image.cells for image in images]
  nothing = [np.zeros(0)]
  areas = np.concatenate([one.areas for one in cells] or nothing)
  sure = np.concatenate([one.confidence for one in cells] or nothing)
  quartiles = [
    np.percentile(one.areas, (25, 50, 75)) if one.areas.size else [np.nan] * 3
    for one in cells
  ]
  files = len({image.record.file for image in images})
  along = 'image' if len(images) > files > 1 else 'file'
  along = 'frame' if files == 1 < len(images) else along
  counts = [one.labels.size for one in cells]
  return {
    'cells': areas.size,
    'along': along,
    'median_area': float(np.median(areas)) if areas.size else None,
    'confidence': float(np.median(sure)) if areas.size else None,
    'median_count': float(np.median(counts)) if counts else None,
    'counts': safe(charts.counts(counts, along)),
    'areas': safe(charts.areas(np.array(quartiles).reshape(-1, 3), along)),
    'sizes': safe(charts.size_histogram(diameters(areas))),
    'sureness': safe(charts.confidence_histogram(sure)),
  }


def _outlier(
  out: pathlib.Path, image: Image, remarks: Remarks
) -> dict[str, Any]:
  """Returns what the page shows of an outlier, with a large picture."""
  labels, pixels = _read(out, image)
  scale = encode.Scale.fitting(labels.shape, _LARGE)
  shown = scale.labels(labels)
  picture = np.zeros(labels.shape) if pixels is None else bright(pixels)
  others = np.setdiff1d(shown, [0, *remarks.huge])
  return {
    'name': image.name,
    'reasons': remarks.reasons,
    'cells': image.cells.labels.size,
    'shown': scale.shown,
    'picture': encode.jpeg(scale.values(picture)),
    'others': encode.outline_path(shown, others),
    'huge': encode.outline_path(shown, remarks.huge),
  }


def _thumbnail(out: pathlib.Path, image: Image) -> dict[str, Any]:
  """Returns what the page shows of an image in its contact sheet."""
  labels, pixels = _read(out, image)
  scale = encode.Scale.fitting(labels.shape, _SMALL)
  shown = scale.labels(labels)
  if pixels is None:
    picture = label_colours(shown)
  else:
    picture = overlay(scale.values(bright(pixels)), shown) / 255
  return {
    'name': image.name,
    'cells': image.cells.labels.size,
    'shown': scale.shown,
    'picture': encode.jpeg(picture),
  }


def _read(
  out: pathlib.Path, image: Image
) -> tuple[np.ndarray, np.ndarray | None]:
  """Reads labels and intensities of an image, subsampled if it is large.

  Returns:
    Labels (h, w), and intensities (h, w) or (h, w, C); these are None if the
    image is gone or does not open without the options it was segmented with.
  """
  with open_image(_labels_path(out, image.record)) as source:
    step = max(1, max(source.shape[-2:]) // _READ)
    every = slice(None, None, step)
    place = np.unravel_index(image.frame, source.shape[:-2])
    labels = source[(*map(int, place), every, every)]
  with (
    contextlib.suppress(ImageFileError, ValueError, OSError),
    open_image(image.record.file) as source,
  ):
    frames = select(source, Selection(), source.size('C'))
    if len(frames) == image.frames:
      pixels = frames[image.frame][every, every]
      if pixels.shape[:2] == labels.shape:
        return labels, pixels
  return labels, None
