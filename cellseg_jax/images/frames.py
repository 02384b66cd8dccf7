"""Frames: 2-D images within files of any number of axes, read block by block.

Segmentation works on frames; `selection` makes them.
"""

from collections.abc import Sequence
import dataclasses
import math

import numpy as np

from cellseg_jax.images.errors import check_size, ImageFileError
from cellseg_jax.images.source import Source

# Weights of red, green and blue; those of luminance are from ITU-R BT.709.
_WEIGHTS = {
  'luminance': (0.2125, 0.7154, 0.0721),
  'mean': (1 / 3, 1 / 3, 1 / 3),
}
_COLOURS = ('red', 'green', 'blue')
RGB_MODES = (*_WEIGHTS, *_COLOURS)


@dataclasses.dataclass(frozen=True, eq=False)
class Frame:
  """A 2-D image within a file, whose pixels are read when it is indexed.

  Attributes:
    source: The file.
    shape: (H, W), or (H, W, C) for a model with several channels.
    dtype: Type of the pixels that indexing returns.
    suffix: Ending that distinguishes the frames of one file in output names,
      such as '_t003_z01'; '' if there is only one.
    time: Index along the time axis.
    depths: Index along the depth axis; several if the frame is the maximum over
      these planes.
    channels: Indices of the channels to read.
    rgb: How colours become grey, one of `RGB_MODES`; '' if there are no
      colours, or if they are taken as channels.
  """

  source: Source
  shape: tuple[int, ...]
  dtype: np.dtype
  suffix: str
  time: int
  depths: Sequence[int]
  channels: Sequence[int]
  rgb: str

  @property
  def pixel_size(self) -> tuple[float, float] | None:
    """Height and width of a pixel in um, or None if unknown."""
    return self.source.pixel_size

  def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
    """Reads a block.

    Args:
      index: Rows and columns, slices with positive steps.

    Returns:
      Pixels (h, w), or (h, w, C).

    Raises:
      ImageFileError: The pixels cannot be read, or hold NaN or infinity.
    """
    rows, columns = index
    first, *others = self.depths
    block = self._plane(first, rows, columns)
    for depth in others:  # Only two planes are in memory at a time.
      block = np.maximum(block, self._plane(depth, rows, columns))
    if block.dtype.kind == 'f' and not np.isfinite(block).all():
      wrong = np.argwhere(~np.isfinite(block))
      y, x = (
        range(size)[part][place]
        for size, part, place in zip(
          self.shape[:2], index, wrong[0, :2], strict=True
        )
      )
      raise ImageFileError(
        f'{self.source.path}: holds pixels that are NaN or infinite, the first '
        f'found at row {y}, column {x}; replace them'
      )
    return block

  def __array__(
    self, dtype: np.dtype | None = None, copy: bool | None = None
  ) -> np.ndarray:
    """Reads the whole frame, for `numpy.asarray`."""
    if copy is False:
      raise ValueError('the pixels of a file cannot be had without a copy')
    held = math.prod(self.shape)
    check_size(
      self.source.path, self.source.shape, held, self.source.max_pixels
    )
    return np.asarray(self[:, :], dtype)

  def _plane(self, depth: int, rows: slice, columns: slice) -> np.ndarray:
    """Reads a block of one plane: (h, w), or (h, w, C)."""
    low, high = min(self.channels), max(self.channels)
    parts: dict[str, int | slice] = {
      'T': self.time,
      'Z': depth,
      'Y': rows,
      'X': columns,
      'C': slice(low, high + 1),
      'S': slice(None),
    }
    axes = self.source.axes
    block = self.source[tuple(parts[axis] for axis in axes)]
    kept = [axis for axis in axes if axis not in 'TZ']
    block = block.transpose([kept.index(a) for a in 'YXCS' if a in kept])
    if 'C' in kept:
      block = block[:, :, [channel - low for channel in self.channels]]
    if self.rgb:
      block = to_grey(block, self.rgb)
    return block.reshape(block.shape[:2] + self.shape[2:])


def to_grey(pixels: np.ndarray, rgb: str) -> np.ndarray:
  """Converts colours along the last axis to grey; ignores alpha.

  Args:
    pixels: (..., 3), red, green and blue, or (..., 4) with alpha.
    rgb: One of `RGB_MODES`.

  Returns:
    Grey values (...), in the range of the colours, of the type that `grey_type`
    returns.
  """
  if rgb in _COLOURS:
    return pixels[..., _COLOURS.index(rgb)]
  dtype = grey_type(pixels.dtype, rgb)
  # Summed one by one: a matrix product would round differently for blocks than
  # for the whole image.
  red, green, blue = (
    pixels[..., i].astype(dtype) * dtype.type(weight)
    for i, weight in enumerate(_WEIGHTS[rgb])
  )
  return red + green + blue


def grey_type(dtype: np.dtype, rgb: str) -> np.dtype:
  """Returns the type of grey pixels: floating point if they are averages."""
  return dtype if rgb in _COLOURS else np.result_type(dtype, np.float32)
