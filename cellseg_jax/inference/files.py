"""Processes one image file: opens it, reads its pixels and finds its cells.

Decides whether an image is processed whole or in tiles, in memory or on disk.
The module `outputs` writes the results.
"""

from collections.abc import Iterator, Sequence
import contextlib
import dataclasses
import math
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.images.errors import MAX_PIXELS
from cellseg_jax.images.frames import Frame
from cellseg_jax.images.selection import select, Selection
from cellseg_jax.images.source import open_image
from cellseg_jax.inference import scale
from cellseg_jax.inference.blocks import Array, Readable
from cellseg_jax.inference.filters import filter_blocks, filter_labels, Filters
from cellseg_jax.inference.large import scratch_images, segment_large_maps
from cellseg_jax.inference.on_host import segment_image
from cellseg_jax.inference.predict import Model, with_settings

# Most pixels of the network's input that are predicted without tiling.
WHOLE = 2**22
# Most pixels of a file held in memory; for larger files, pixels are read as
# needed and labels are kept in scratch files.
HELD = 2**26
# Most pixels of an image for which overlays and other exports, which need the
# whole image in memory, are written.
MOST_EXPORTED = 2**28


@dataclasses.dataclass(frozen=True)
class Options:
  """How files are read and which outputs are written.

  Attributes:
    axes: Axes of the image array, such as 'TCZYX', overriding the file's
      metadata; None takes those of the metadata.
    scene: Name or index of the image to read from a file of several.
    max_pixels: Most values that may be held in memory at once when reading.
    selection: Which planes to segment.
    diameter: Median cell diameter in these images, in pixels; 0 assumes the
      training images' diameter, rescaled by the pixel sizes if both are known.
    decoding: Decoder settings that replace the model's, as (name, value).
    filters: Which cells to keep.
    file_format: Format of the label images, 'tif' or 'zarr'.
    extras: Additional outputs to write, keys of `outputs.EXTRAS`.
  """

  axes: str | None = None
  scene: str = ''
  max_pixels: int = MAX_PIXELS
  selection: Selection = dataclasses.field(default_factory=Selection)
  diameter: float = 0.0
  decoding: tuple[tuple[str, float], ...] = ()
  filters: Filters = dataclasses.field(default_factory=Filters)
  file_format: str = 'tif'
  extras: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Loaded:
  """An open file, with its pixels in memory if there are not too many.

  Attributes:
    path: The file.
    frames: The selected frames.
    pixels: For each frame an array (H, W) or (H, W, C), or a lazy object that
      is read by slices.
    resources: Exit stack that closes the file and deletes its scratch.
  """

  path: pathlib.Path
  frames: Sequence[Frame]
  pixels: Sequence[Any]
  resources: contextlib.ExitStack


@dataclasses.dataclass(frozen=True)
class Found:
  """The cells of one frame.

  Attributes:
    labels: Label image, int32 (H, W); 0 is background.
    confidence: Confidence of each cell, in increasing order of the labels,
      float32 (n,), 0 to 1.
    probability: Foreground probability, float32 (H, W), 0 to 1.
  """

  labels: Array
  confidence: np.ndarray
  probability: Readable


@contextlib.contextmanager
def opened(
  path: pathlib.Path, options: Options, channels: int
) -> Iterator[Sequence[Frame]]:
  """Opens a file and yields the selected frames, without reading pixels.

  Args:
    path: The file.
    options: How to read it.
    channels: Channels that the model takes.

  Raises:
    ImageFileError: The header cannot be read, or a selected plane is absent.
  """
  with open_image(
    path, options.axes, scene=options.scene, max_pixels=options.max_pixels
  ) as source:
    yield select(source, options.selection, channels)


def load(path: pathlib.Path, options: Options, channels: int) -> Loaded:
  """Opens a file, and reads its pixels unless there are more than `HELD`.

  Args:
    path: The file.
    options: How to read it.
    channels: Channels that the model takes.

  Returns:
    The open file; the caller closes its `resources`.

  Raises:
    ImageFileError: The file cannot be read, or a selected plane is absent.
  """
  with contextlib.ExitStack() as stack:
    frames = stack.enter_context(opened(path, options, channels))
    pixels: list[Any] = list(frames)
    if count_pixels(frames) <= HELD:
      pixels = [np.asarray(frame) for frame in frames]
    return Loaded(path, frames, pixels, stack.pop_all())


def fitted(
  model: Model, pixel_size: tuple[float, float] | None, options: Options
) -> Model:
  """Returns the model adapted to the scale of the frames and the options.

  Args:
    model: The model, as `load_model` returns it.
    pixel_size: Height and width of the frames' pixels in um; None if unknown.
    options: Supplies the cell diameter, decoder settings and whether to fill
      holes.

  Raises:
    ValueError: A diameter is given but the model has none to compare with, the
      scale is too far from that of training, or the decoder has no such
      setting.
  """
  model = scale.fitted(model, options.diameter, pixel_size)
  model = with_settings(model, dict(options.decoding))
  if options.filters.fill_holes:
    model = scale.with_holes_filled(model)
  return model


def is_small(model: Model, frame: Frame) -> bool:
  """Whether a frame is predicted whole rather than in tiles.

  Args:
    model: The model, adapted to the frame by `fitted`.
    frame: The frame.
  """
  pixels = math.prod(frame.shape[:2])
  return pixels * model.config.data.resample**2 <= WHOLE


def find(model: Model, loaded: Loaded, options: Options) -> list[Found]:
  """Finds the cells of every frame of a file.

  Args:
    model: The model, as `load_model` returns it.
    loaded: The open file; scratch is added to its `resources`.
    options: How the file is processed.

  Returns:
    The cells of each frame, in order.

  Raises:
    ValueError: The image does not fit the model, its scale is too far from that
      of training, or it is too large for the requested extras.
    ImageFileError: Pixels cannot be read, or are NaN or infinite.
    OSError: There is no disk space for scratch.
  """
  frames = loaded.frames
  shape = (frames[0].shape[0], frames[0].shape[1])
  model = fitted(model, frames[0].pixel_size, options)
  check_extras(shape, options)
  new_image = loaded.resources.enter_context(scratch_images(shape, None))
  whole = is_small(model, frames[0])
  held = count_pixels(frames) <= HELD
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


def check_extras(shape: tuple[int, int], options: Options) -> None:
  """Checks that an image is small enough for the requested extras.

  Args:
    shape: Height and width of the image.
    options: Supplies the extras.

  Raises:
    ValueError: Extras are requested and the image has more than
      `MOST_EXPORTED` pixels.
  """
  if options.extras and math.prod(shape) > MOST_EXPORTED:
    raise ValueError(
      f'an image of {shape[0]}x{shape[1]} pixels is too large for '
      f'{", ".join(options.extras)}; leave that out'
    )


def count_pixels(frames: Sequence[Frame]) -> int:
  """Returns the number of pixels in all frames, not multiplied by channels."""
  return sum(math.prod(frame.shape[:2]) for frame in frames)


def _find_whole(model: Model, pixels: np.ndarray, filters: Filters) -> Found:
  labels, confidence, maps = segment_image(model, pixels)
  labels, confidence = filter_labels(labels, confidence, filters)
  return Found(labels, confidence, maps['foreground'])


def _on_disk(values: Readable, scratch: Array) -> Array:
  scratch[:, :] = values
  return scratch
