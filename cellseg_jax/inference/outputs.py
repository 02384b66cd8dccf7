"""What is written of an image file: labels, table and what else is wanted."""

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

# What is made on request: the name of its folder, and the file's suffix.
EXTRAS = {
  'overlay': '.png',
  'probability': '.tif',
  'roi': '.zip',
  'geojson': '.geojson',
  'coco': '.json',
}


@dataclasses.dataclass(frozen=True)
class Written:
  """What became of a file.

  Attributes:
    confidence: Of every cell, by frame: its label and its confidence.
    pixels: Of all frames.
    warning: What is odd about the cells, or ''.
    outputs: The files written, in the folder of outputs.
  """

  confidence: tuple[dict[int, float], ...]
  pixels: int
  warning: str
  outputs: tuple[str, ...]

  @property
  def cells(self) -> int:
    """How many, in all frames."""
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
  """Writes all that is made of a file, or nothing.

  Args:
    loaded: The file.
    found: The cells of its frames.
    out: The folder to write to.
    name: What the outputs are called, but for their suffixes.
    options: What to write.
    expected: Diameter in pixels of the median cell as the model knows it; 0
      where that is not known.
    each: Measures the parts of a large image.

  Raises:
    OSError: A file cannot be written.
    OutsideError: A name leads out of the folder.
  """
  outputs: list[str] = []
  try:
    measured = _write_all(loaded, found, out, name, options, outputs, each)
  except BaseException:
    for path in outputs:  # Those of a file that failed are not to be found.
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
  """Writes as `write`; notes in `outputs` what there is, returns the tables."""
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
  """The label images of a file as one array, read by blocks."""

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
  """Puts the tables of all frames under one another."""
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
  """Writes one of `EXTRAS`."""
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
