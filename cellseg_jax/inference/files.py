"""One image file: its pixels read, its cells found, its outputs written."""

from collections.abc import Sequence
import contextlib
import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.images import cells as cells_lib
from cellseg_jax.images import exports, tables
from cellseg_jax.images.errors import MAX_PIXELS
from cellseg_jax.images.frames import Frame
from cellseg_jax.images.label_files import FORMATS, write_label_file
from cellseg_jax.images.selection import select, Selection, stack_axes
from cellseg_jax.images.source import open_image
from cellseg_jax.inference import scale
from cellseg_jax.inference.blocks import Array
from cellseg_jax.inference.filters import filter_blocks, filter_labels, Filters
from cellseg_jax.inference.large import scratch_images, segment_large_maps
from cellseg_jax.inference.large_table import measure_large
from cellseg_jax.inference.predict import Model, segment_maps

# Pixels of the network's input above which an image is seen tile by tile.
WHOLE = 2**22
# Pixels of a file that are held in memory; of more, labels wait on disk.
HELD = 2**26
# Pixels above which there are no pictures and exports, which need the whole.
MOST_EXPORTED = 2**28

# What is made on request: the name of its folder, and the file's suffix.
EXTRAS = {
  'overlay': '.png',
  'probability': '.tif',
  'roi': '.zip',
  'geojson': '.geojson',
  'coco': '.json',
}


@dataclasses.dataclass(frozen=True)
class Options:
  """How files are read, and what is made of them.

  Attributes:
    axes: As for `images.source.open_image`.
    scene: Likewise.
    max_pixels: Likewise.
    selection: Which planes to take.
    diameter: That of the median cell of these images, in pixels; 0 for that
      of the training images, or what the pixel sizes say.
    filters: Which cells are left.
    file_format: Of the label images, 'tif' or 'zarr'.
    extras: Of `EXTRAS`.
  """

  axes: str | None = None
  scene: str = ''
  max_pixels: int = MAX_PIXELS
  selection: Selection = dataclasses.field(default_factory=Selection)
  diameter: float = 0.0
  filters: Filters = dataclasses.field(default_factory=Filters)
  file_format: str = 'tif'
  extras: tuple[str, ...] = ()


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


@dataclasses.dataclass(frozen=True)
class Loaded:
  """An open file; its pixels, where there are not too many, in memory."""

  path: pathlib.Path
  frames: Sequence[Frame]
  pixels: Sequence[Any]
  resources: contextlib.ExitStack


@dataclasses.dataclass(frozen=True)
class Found:
  """The cells of one frame."""

  labels: Array
  confidence: np.ndarray
  probability: Array


def load(path: pathlib.Path, options: Options, channels: int) -> Loaded:
  """Opens a file, and reads it unless it is large.

  Raises:
    ImageFileError: It cannot be read, or what is wanted of it is not there.
  """
  with contextlib.ExitStack() as stack:
    source = stack.enter_context(
      open_image(
        path, options.axes, scene=options.scene, max_pixels=options.max_pixels
      )
    )
    frames = select(source, options.selection, channels)
    pixels: list[Any] = list(frames)
    if _pixels(frames) <= HELD:
      pixels = [np.asarray(frame) for frame in frames]
    return Loaded(path, frames, pixels, stack.pop_all())


def find(model: Model, loaded: Loaded, options: Options) -> list[Found]:
  """Finds the cells of every frame.

  Raises:
    ValueError: The image does not fit the model, or its scale is impossible.
    ImageFileError: Pixels cannot be read, or are NaN or infinite.
    OSError: There is no room for scratch.
  """
  frames = loaded.frames
  shape = (frames[0].shape[0], frames[0].shape[1])
  model = scale.fitted(model, options.diameter, frames[0].pixel_size)
  if options.filters.fill_holes:
    model = scale.with_holes_filled(model)
  if options.extras and math.prod(shape) > MOST_EXPORTED:
    raise ValueError(
      f'an image of {shape[0]}x{shape[1]} pixels is too large for '
      f'{", ".join(options.extras)}; leave that out'
    )
  new_image = loaded.resources.enter_context(scratch_images(shape, None))
  whole = math.prod(shape) * model.config.data.resample**2 <= WHOLE
  held = _pixels(frames) <= HELD
  found = []
  for pixels in loaded.pixels:
    if whole:
      one = _find_whole(model, np.asarray(pixels), options.filters)
      if not held:
        one = dataclasses.replace(
          one,
          labels=_on_disk(one.labels, new_image(np.int32)),
          probability=_on_disk(one.probability, new_image(np.float32)),
        )
    else:
      labels, confidence, maps = segment_large_maps(
        model, pixels, new_image(np.int32), new_image=new_image
      )
      confidence = filter_blocks(labels, confidence, options.filters)
      one = Found(labels, confidence, maps['foreground'])
    found.append(one)
  return found


def write(
  loaded: Loaded,
  found: Sequence[Found],
  out: pathlib.Path,
  name: str,
  options: Options,
  expected: float,
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

  Raises:
    OSError: A file cannot be written.
  """
  outputs: list[str] = []
  try:
    measured = _write_all(loaded, found, out, name, options, outputs)
  except BaseException:
    for path in outputs:  # Those of a file that failed are not to be found.
      (out / path).unlink(missing_ok=True)
    raise
  return Written(
    tuple(
      dict(zip(t['label'].tolist(), t['confidence'].tolist(), strict=True))
      for t in measured
    ),
    _pixels(loaded.frames),
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
) -> list[dict[str, np.ndarray]]:
  """Writes as `write`; notes in `outputs` what there is, returns the tables."""
  frames = loaded.frames
  measured = []
  for number, (frame, pixels, one) in enumerate(
    zip(frames, loaded.pixels, found, strict=True)
  ):
    measure = (
      cells_lib.measure_cells
      if isinstance(one.labels, np.ndarray)
      else measure_large
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
      (out / extra).mkdir(exist_ok=True)
      _export(out / target, extra, loaded.path, frame, pixels, one, table)
      outputs.append(str(target))
  part = tables.part_path(out, name)
  tables.write_part(part, _joined(measured))
  outputs.append(str(part.relative_to(out)))
  labels_path = f'{name}{FORMATS[options.file_format]}'
  write_label_file(
    out / labels_path,
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


def _pixels(frames: Sequence[Frame]) -> int:
  return sum(math.prod(frame.shape[:2]) for frame in frames)


def _find_whole(model: Model, pixels: np.ndarray, filters: Filters) -> Found:
  labels, confidence, maps = segment_maps(model, pixels)
  labels, confidence = filter_labels(labels, confidence, filters)
  return Found(labels, confidence, maps['foreground'])


def _on_disk(values: Array, scratch: Array) -> Array:
  scratch[:, :] = values
  return scratch


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
