"""One image file: its pixels read, its cells found; see also `outputs`."""

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
from cellseg_jax.inference.predict import Model

# Pixels of the network's input above which an image is seen tile by tile.
WHOLE = 2**22
# Pixels of a file that are held in memory; of more, labels wait on disk.
HELD = 2**26
# Pixels above which there are no pictures and exports, which need the whole.
MOST_EXPORTED = 2**28


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
    extras: Of `outputs.EXTRAS`.
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
  probability: Readable


@contextlib.contextmanager
def opened(
  path: pathlib.Path, options: Options, channels: int
) -> Iterator[Sequence[Frame]]:
  """Gives the frames that are wanted of a file, none of them read yet.

  Raises:
    ImageFileError: Its header cannot be read, or what is wanted is not there.
  """
  with open_image(
    path, options.axes, scene=options.scene, max_pixels=options.max_pixels
  ) as source:
    yield select(source, options.selection, channels)


def load(path: pathlib.Path, options: Options, channels: int) -> Loaded:
  """Opens a file, and reads it unless it is large.

  Raises:
    ImageFileError: It cannot be read, or what is wanted of it is not there.
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
  """Returns the model for frames of a scale, with the decoder asked for.

  Args:
    model: As `load_model` returns.
    pixel_size: As of `Frame`.
    options: The diameter of the cells, and the filters.

  Raises:
    ValueError: The scale is impossible.
  """
  model = scale.fitted(model, options.diameter, pixel_size)
  if options.filters.fill_holes:
    model = scale.with_holes_filled(model)
  return model


def is_small(model: Model, frame: Frame) -> bool:
  """Whether the network sees a frame as a whole, by a model that fits it."""
  pixels = math.prod(frame.shape[:2])
  return pixels * model.config.data.resample**2 <= WHOLE


def find(model: Model, loaded: Loaded, options: Options) -> list[Found]:
  """Finds the cells of every frame.

  Raises:
    ValueError: The image does not fit the model, or its scale is impossible.
    ImageFileError: Pixels cannot be read, or are NaN or infinite.
    OSError: There is no room for scratch.
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
  """Refuses pictures and exports of what is too large for them.

  Raises:
    ValueError: There are more than `MOST_EXPORTED` pixels.
  """
  if options.extras and math.prod(shape) > MOST_EXPORTED:
    raise ValueError(
      f'an image of {shape[0]}x{shape[1]} pixels is too large for '
      f'{", ".join(options.extras)}; leave that out'
    )


def count_pixels(frames: Sequence[Frame]) -> int:
  """Returns the pixels of all frames; channels count once."""
  return sum(math.prod(frame.shape[:2]) for frame in frames)


def _find_whole(model: Model, pixels: np.ndarray, filters: Filters) -> Found:
  labels, confidence, maps = segment_image(model, pixels)
  labels, confidence = filter_labels(labels, confidence, filters)
  return Found(labels, confidence, maps['foreground'])


def _on_disk(values: Readable, scratch: Array) -> Array:
  scratch[:, :] = values
  return scratch
