"""Decodes predicted maps into label images: the decoders and shared steps.

A decoder, in a module of its own, consists of a function from maps and settings
to pieces of cells, and of candidate values for the settings, which are chosen
on labelled images. Joining the pieces and the clean-up that follows are common
to all decoders. Everything runs block by block in several threads; an image in
memory is cut into strips.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
import dataclasses
import functools
from typing import NamedTuple

import numpy as np

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference import ascent, components
from cellseg_jax.inference.blocks import (
  Array,
  Box,
  cut,
  Each,
  in_turn,
  read_framed,
  Readable,
)
from cellseg_jax.inference.cleanup import clean, Labels
from cellseg_jax.inference.numbered import Numbered
from cellseg_jax.inference.pieces import (
  Found,
  PieceTable,
  summarize,
  Summary,
)

# Rows of an image per strip. With two cores, strips took 0.7 times as long as
# the image in one piece.
_STRIP = 256

Maps = Mapping[str, np.ndarray]
Settings = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Decoder:
  """A method of separating cells.

  Attributes:
    find: Pure function from the maps of a framed block and the settings to the
      pieces of cells in the block.
    maps: Names of the maps that `find` reads.
    candidates: The values to choose from, by setting; the search starts from
      the first, which is also the default.
  """

  find: Callable[[Maps, Settings], Found]
  maps: tuple[str, ...]
  candidates: Mapping[str, tuple[float, ...]]


DECODERS = {
  'components': Decoder(
    components.find, components.MAPS, components.CANDIDATES
  ),
  'ascent': Decoder(ascent.find, ascent.MAPS, ascent.CANDIDATES),
}


def fixed_settings(config: DecodingConfig) -> dict[str, float]:
  """Returns the decoder settings that the config fixes.

  The others are chosen on labelled images.
  """
  given = {
    'threshold': config.threshold or None,
    'depth': config.depth or None,
    'centre_share': config.centre_share if config.centre_share >= 0 else None,
    'confidence': config.confidence if config.confidence >= 0 else None,
  }
  names = DECODERS[config.method].candidates
  return {name: value for name in names if (value := given[name]) is not None}


def default_settings(config: DecodingConfig) -> dict[str, float]:
  """Returns the decoder settings to use where none were chosen."""
  candidates = DECODERS[config.method].candidates
  first = {name: values[0] for name, values in candidates.items()}
  return first | fixed_settings(config)


class Cells(NamedTuple):
  """The cells found in an image, with labels computed on demand.

  Attributes:
    number: Number of cells.
    boxes: The blocks of the image.
    grown: Computes the final labels of a block, int32 (h, w).
  """

  number: int
  boxes: Sequence[Box]
  grown: Callable[[Box], np.ndarray]

  @property
  def blocks(self) -> Iterator[tuple[Box, np.ndarray]]:
    """Yields each block with its labels, computed on demand."""
    return zip(self.boxes, in_turn(self.grown, self.boxes), strict=True)


def decode(
  maps: Maps, config: DecodingConfig, settings: Settings
) -> np.ndarray:
  """Finds the cells in the maps of one image.

  Args:
    maps: The maps by name, float (H, W), 0 to 1.
    config: Selects the decoder and its clean-up; the decoder settings in it are
      ignored in favour of `settings`.
    settings: Values of the decoder's settings by name.

  Returns:
    int32 (H, W); 0 is background, 1 to n are the cells, in the order of their
    first pixels before holes are filled and the rim is added.

  Raises:
    ValueError: A map is not (H, W) or holds NaN.
  """
  for name in DECODERS[config.method].maps:
    if maps[name].ndim != 2:
      raise ValueError(
        f'map {name} must be (H, W), found shape {maps[name].shape}'
      )
  shape = maps['foreground'].shape
  cells = decode_blocks(
    maps,
    config,
    settings,
    (_STRIP, shape[1]),
    lambda: np.zeros(shape, np.int32),
  )
  labels = np.zeros(shape, np.int32)
  for box, block in cells.blocks:
    labels[box.slices] = block
  return labels


def decode_blocks(
  maps: Mapping[str, Readable],
  config: DecodingConfig,
  settings: Settings,
  block: tuple[int, int],
  new_labels: Callable[[], Array],
  each: Each = in_turn,
) -> Cells:
  """Finds the cells of an image block by block.

  The labels do not depend on the block size. Memory holds the blocks being
  processed, and a few numbers for every piece of a cell and every pixel along
  block borders.

  Args:
    maps: The maps by name, float (H, W), 0 to 1.
    config: Selects the decoder and its clean-up; the decoder settings in it are
      ignored in favour of `settings`.
    settings: Values of the decoder's settings by name.
    block: Height and width of a block.
    new_labels: Returns a new int32 (H, W) array of zeros to store labels in;
      called at most twice.
    each: Processes the blocks and writes to those arrays.

  Returns:
    The cells, whose labels are computed when they are read.

  Raises:
    ValueError: A map holds NaN.
  """
  shape = maps['foreground'].shape
  boxes = cut(shape, block)
  if not boxes:
    return Cells(0, [], lambda box: np.zeros(box.shape, np.int32))
  labels = _separate(maps, config.method, settings, boxes, new_labels(), each)
  labels = clean(
    labels,
    boxes,
    new_labels,
    min_area=config.min_area,
    fill_holes=config.fill_holes,
    each=each,
  )
  grown = functools.partial(labels.grown, rim=config.rim)
  return Cells(labels.area.size - 1, boxes, grown)


def _separate(
  maps: Mapping[str, Readable],
  method: str,
  settings: Settings,
  boxes: Sequence[Box],
  store: Array,
  each: Each,
) -> Labels:
  """Separates the cells and numbers them in the order of their first pixels.

  Args:
    maps: The maps by name, float (H, W), 0 to 1.
    method: Name of the decoder.
    settings: Values of the decoder's settings by name.
    boxes: The blocks of the image.
    store: Array to write pieces to, int32 (H, W).
    each: Processes the blocks and writes to `store`.
  """
  decoder = DECODERS[method]
  shape = (store.shape[0], store.shape[1])

  def look(box: Box) -> Summary:
    framed = {name: read_framed(maps[name], box, 1) for name in decoder.maps}
    for name, values in framed.items():
      check_finite(name, values, box.top - 1, box.left - 1)
    found = decoder.find(framed, settings)
    store[box.slices] = -found.labels[1:-1, 1:-1]
    inner = {n: values[1:-1, 1:-1] for n, values in framed.items()}
    return summarize(box, found, inner, shape)

  pieces = PieceTable()
  offsets = list(map(pieces.add, each(look, boxes)))
  numbered = Numbered(store, boxes[0].shape, offsets)
  # Not every decoder has these two settings.
  depth, least = settings.get('depth', 0.0), settings.get('confidence', 0.0)
  return Labels(numbered, *pieces.cells(depth, least))


def check_finite(
  name: str, values: np.ndarray, top: int = 0, left: int = 0
) -> None:
  """Checks that part of a map holds no NaN.

  Args:
    name: Name of the map.
    values: Part of the map, float (h, w).
    top: Row of the part's first pixel in the image.
    left: Column of that pixel in the image.

  Raises:
    ValueError: The part holds NaN; the message names the first position.
  """
  if np.isnan(values).any():
    y, x = np.argwhere(np.isnan(values))[0]
    raise ValueError(
      f'map {name} holds NaN at row {top + y}, column {left + x}; did the '
      'training diverge?'
    )
