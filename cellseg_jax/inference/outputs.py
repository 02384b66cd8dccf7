"""Writes the outputs of one image file: label image, table and extras."""

from collections.abc import Sequence
import dataclasses
import functools
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.images import cells as cells_lib
from cellseg_jax.images import exports, tables
from cellseg_jax.images.frames import Frame
from cellseg_jax.images.label_files import FORMATS, write_label_file
from cellseg_jax.images.selection import stack_axes
from cellseg_jax.inference import scale
from cellseg_jax.inference.blocks import Array, Each, in_turn
from cellseg_jax.inference.files import count_pixels, Found, Loaded, Options
from cellseg_jax.inference.large_table import measure_large
from cellseg_jax.inside import inside

# Outputs written on request: the name, also of their folder, and the file
# suffix.
EXTRAS = {
  'overlay': '.png',
  'probability': '.tif',
  'roi': '.zip',
  'geojson': '.geojson',
  'coco': '.json',
}


@dataclasses.dataclass(frozen=True)
class Written:
  """Summary of the outputs written for a file.

  Attributes:
    confidence: For each frame, the confidence of each cell by its label.
    pixels: Number of pixels in all frames.
    warning: Warning that the cells are of unusual size, or ''.
    outputs: Paths of the files written, relative to the output folder.
  """

  confidence: tuple[dict[int, float], ...]
  pixels: int
  warning: str
  outputs: tuple[str, ...]

  @property
  def cells(self) -> int:
    """Number of cells in all frames."""
    return sum(map(len, self.confidence))


def write(
  loaded: Loaded,
  found: Sequence[Found],
  out: pathlib.Path,
  name: str,
  options: Options,
  expected: float,
  each: Each = in_turn,
) -> Written:
  """Writes all outputs of a file, or none if one of them fails.

  Args:
    loaded: The open file.
    found: The cells of its frames.
    out: The output folder.
    name: Base name of the outputs, without suffix.
    options: Which outputs to write.
    expected: Expected median cell diameter in pixels; 0 if unknown.
    each: Measures the windows of a large image.

  Raises:
    OSError: A file cannot be written.
    OutsideError: A name leads out of the output folder.
  """
  outputs: list[str] = []
  try:
    measured = _write_all(loaded, found, out, name, options, outputs, each)
  except BaseException:
    for path in outputs:  # Leave no partial outputs of a failed file.
      (out / path).unlink(missing_ok=True)
    raise
  return Written(
    tuple(
      dict(zip(t['label'].tolist(), t['confidence'].tolist(), strict=True))
      for t in measured
    ),
    count_pixels(loaded.frames),
    scale.oddity(_joined(measured)['area_px'], expected),
    tuple(outputs),
  )


def _write_all(
  loaded: Loaded,
  found: Sequence[Found],
  out: pathlib.Path,
  name: str,
  options: Options,
  outputs: list[str],
  each: Each,
) -> list[dict[str, np.ndarray]]:
  """Writes all outputs and returns the table of each frame.

  Args:
    loaded: The open file.
    found: The cells of its frames.
    out: The output folder.
    name: Base name of the outputs, without suffix.
    options: Which outputs to write.
    outputs: Receives the path of each file as soon as it is written, relative
      to `out`.
    each: Measures the windows of a large image.
  """
  frames = loaded.frames
  measured = []
  for number, (frame, pixels, one) in enumerate(
    zip(frames, loaded.pixels, found, strict=True)
  ):
    measure: Any = (
      cells_lib.measure_cells
      if isinstance(one.labels, np.ndarray)
      else functools.partial(measure_large, each=each)
    )
    table = measure(
      one.labels,
      np.asarray(pixels) if isinstance(one.labels, np.ndarray) else pixels,
      one.confidence,
      file=loaded.path.name,
      frame=number,
      pixel_size=frame.pixel_size,
    )
    measured.append(table)
    for extra in options.extras:
      target = pathlib.Path(extra, f'{name}{frame.suffix}{EXTRAS[extra]}')
      path = inside(out, target)
      path.parent.mkdir(exist_ok=True)
      _export(path, extra, loaded.path, frame, pixels, one, table)
      outputs.append(str(target))
  part = tables.part_path(out, name)
  tables.write_part(part, _joined(measured))
  outputs.append(str(part.relative_to(out)))
  labels_path = f'{name}{FORMATS[options.file_format]}'
  write_label_file(
    inside(out, labels_path),
    _Stack([one.labels for one in found], frames),
    axes=stack_axes(frames) + 'YX',
    pixel_size=frames[0].pixel_size,
  )
  outputs.append(labels_path)
  return measured


class _Stack:
  """The label images of all frames of a file as one array, read by blocks."""

  def __init__(self, images: Sequence[Array], frames: Sequence[Frame]):
    self._images = images
    sides = [
      len({key(frame) for frame in frames})
      for axis, key in (
        ('T', lambda frame: frame.time),
        ('Z', lambda frame: tuple(frame.depths)),
      )
      if axis in stack_axes(frames)
    ]
    self.shape = (*sides, *images[0].shape)
    self.dtype = np.dtype(np.int32)

  def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
    *leading, rows, columns = index
    place = np.ravel_multi_index(leading, self.shape[:-2]) if leading else 0
    return self._images[int(place)][rows, columns]


def _joined(measured: Sequence[cells_lib.Table]) -> dict[str, np.ndarray]:
  """Concatenates the tables of all frames."""
  return {
    name: np.concatenate([table[name] for table in measured])
    for name in measured[0]
  }


def _export(
  path: pathlib.Path,
  extra: str,
  image: pathlib.Path,
  frame: Frame,
  pixels: Any,
  found: Found,
  table: cells_lib.Table,
) -> None:
  """Writes one of `EXTRAS` for a frame.

  Args:
    path: File to write.
    extra: Which of `EXTRAS` to write.
    image: The image file, whose name is stored in the COCO export.
    frame: The frame.
    pixels: The pixels of the frame, (H, W) or (H, W, C).
    found: The cells of the frame.
    table: The table of these cells.
  """
  labels = np.asarray(found.labels[:, :])
  if extra == 'overlay':
    exports.write_overlay(path, np.asarray(pixels), labels)
  elif extra == 'probability':
    probability = np.asarray(found.probability[:, :])
    exports.write_probability(path, probability, frame.pixel_size)
  elif extra == 'roi':
    exports.write_rois(path, labels)
  elif extra == 'geojson':
    exports.write_geojson(path, labels, table)
  else:
    exports.write_coco(path, labels, found.confidence, image.name)
