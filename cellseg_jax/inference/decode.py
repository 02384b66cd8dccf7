"""From predicted maps to label images: the decoders and what they share.

A decoder is a function from maps and settings to pieces of cells, and a list of
the settings that are chosen on labelled images; it has one file. Joining the
pieces and the filters that follow are the same for all. All of it goes block by
block, in several threads; an image in memory is cut into strips.
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

# Rows of an image that one thread decodes: two cores took 0.7 times as long as
# with the image in one piece.
_STRIP = 256

Maps = Mapping[str, np.ndarray]
Settings = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Decoder:
  """A way to tell cells apart.

  Attributes:
    find: Maps of a block and its frame, and settings, to the pieces of cells
      in them; pure.
    maps: Names of the maps that it reads.
    candidates: For each setting by name, the values to choose among; the first
      is where the search begins.
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
  """Returns the decoder's settings that a config gives; the rest is chosen."""
  given = {
    'threshold': config.threshold or None,
    'depth': config.depth or None,
    'centre_share': config.centre_share if config.centre_share >= 0 else None,
    'confidence': config.confidence if config.confidence >= 0 else None,
  }
  names = DECODERS[config.method].candidates
  return {name: value for name in names if (value := given[name]) is not None}


def default_settings(config: DecodingConfig) -> dict[str, float]:
  """Returns the decoder's settings where none were chosen."""
  candidates = DECODERS[config.method].candidates
  first = {name: values[0] for name, values in candidates.items()}
  return first | fixed_settings(config)


class Cells(NamedTuple):
  """What is found in an image.

  Attributes:
    number: How many cells.
    boxes: The blocks.
    grown: Computes the labels of a block, int32 (h, w).
  """

  number: int
  boxes: Sequence[Box]
  grown: Callable[[Box], np.ndarray]

  @property
  def blocks(self) -> Iterator[tuple[Box, np.ndarray]]:
    """Each block with its labels, computed when asked for."""
    return zip(self.boxes, in_turn(self.grown, self.boxes), strict=True)


def decode(
  maps: Maps, config: DecodingConfig, settings: Settings
) -> np.ndarray:
  """Finds the cells in the maps of one image.

  Args:
    maps: By name, float (H, W), 0 to 1.
    config: The decoder and the filters; its own settings are not used.
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
  """Finds the cells of an image, looking at one block after another.

  The labels are the same whatever the size of a block. In memory are what
  belongs to a block, and a few numbers for every piece of a cell and every
  pixel along the blocks' borders.

  Args:
    maps: By name, float (H, W), 0 to 1.
    config: As for `decode`.
    settings: As for `decode`.
    block: Height and width of a block.
    new_labels: Makes an int32 (H, W) array of zeros to keep labels in; called
      at most twice.
    each: Looks at the blocks, and writes what those arrays keep of them.

  Returns:
    The cells.

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
  """Tells the cells apart and numbers them by their first pixels.

  Args:
    maps: As for `decode_blocks`.
    method: Name of the decoder.
    settings: As for `decode`.
    boxes: The blocks.
    store: Where pieces are kept, int32 (H, W).
    each: As for `decode_blocks`.
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
  # Not every decoder has these two.
  depth, least = settings.get('depth', 0.0), settings.get('confidence', 0.0)
  return Labels(numbered, *pieces.cells(depth, least))


def check_finite(
  name: str, values: np.ndarray, top: int = 0, left: int = 0
) -> None:
  """Refuses NaN in a map.

  Args:
    name: The map's.
    values: Its part, float (h, w).
    top: Row of the part's first pixel.
    left: Column of that pixel.

  Raises:
    ValueError: There is one; the message names its place.
  """
  if np.isnan(values).any():
    y, x = np.argwhere(np.isnan(values))[0]
    raise ValueError(
      f'map {name} holds NaN at row {top + y}, column {left + x}; did the '
      'training diverge?'
    )
