"""Encoding of arrays for pages: inlined pictures, outlines as SVG paths."""

import base64
from collections.abc import Collection
import dataclasses
from typing import Any

import imageio.v3 as iio
import numpy as np
from skimage.transform import resize

from cellseg_jax.images.outlines import polygons

# JPEG quality at which faint cells survive, and edges have no ringing that
# could be mistaken for structure.
_QUALITY = 85
# Label, in `labels_png`, of pixels that do not count, as the page's script
# reads it.
NOT_VALID = 2**24 - 1


@dataclasses.dataclass(frozen=True)
class Scale:
  """Scaling of an image to the size at which a page shows it.

  Attributes:
    height, width: Size of the image in pixels.
    shown: Height and width of the picture in the page, in pixels.
  """

  height: int
  width: int
  shown: tuple[int, int]

  @classmethod
  def fitting(cls, shape: tuple[int, ...], most: int) -> 'Scale':
    """Returns a scaling to at most `most` pixels on the longer side.

    Smaller images are not enlarged.
    """
    height, width = shape[:2]
    factor = min(1.0, most / max(height, width))
    shown = max(round(height * factor), 1), max(round(width * factor), 1)
    return cls(height, width, shown)

  def values(self, values: np.ndarray) -> np.ndarray:
    """Scales floats, (H, W) or (H, W, C), with antialiasing."""
    if values.shape[:2] == self.shown:
      return values
    return resize(values, self.shown, order=1, anti_aliasing=True)

  def labels(self, labels: np.ndarray) -> np.ndarray:
    """Scales labels, (H, W), by nearest neighbour."""
    rows, columns = (
      (np.arange(shown) * 2 + 1) * side // (2 * shown)
      for shown, side in zip(self.shown, (self.height, self.width), strict=True)
    )
    return labels[rows[:, None], columns]


def jpeg(picture: np.ndarray) -> str:
  """Encodes floats, 0 to 1, (H, W) or (H, W, 3), as a JPEG data URI."""
  pixels = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
  return _inlined(
    pixels, 'jpeg', extension='.jpg', quality=_QUALITY, optimize=True
  )


def png(pixels: np.ndarray) -> str:
  """Encodes uint8 values, (H, W) or (H, W, 3), as a PNG data URI."""
  return _inlined(pixels, 'png', extension='.png', optimize=True)


def probability_png(probability: np.ndarray) -> str:
  """Encodes values from 0 to 1, (H, W), as a grey 8-bit PNG data URI."""
  return png(np.rint(255 * np.clip(probability, 0, 1)).astype(np.uint8))


def labels_png(labels: np.ndarray, valid: np.ndarray) -> str:
  """Encodes labels as a PNG data URI: red + 256 green + 65536 blue.

  Args:
    labels: Integers below `NOT_VALID`, (H, W).
    valid: bool (H, W); pixels that are False become `NOT_VALID`.
  """
  values = np.where(valid, labels, NOT_VALID).astype(np.uint32)
  parts = [(values >> shift) & 255 for shift in (0, 8, 16)]
  return png(np.stack(parts, axis=-1).astype(np.uint8))


def outline_path(labels: np.ndarray, chosen: Collection[int]) -> str:
  """Returns the outlines of some cells as the data of one SVG path.

  Coordinates are in pixels; the first pixel spans 0 to 1.

  Args:
    labels: Integers (H, W).
    chosen: Labels of the cells.
  """
  kept = np.where(np.isin(labels, list(chosen)), labels, 0)
  return ''.join(
    _ring(ring)
    for pieces in polygons(kept).values()
    for piece in pieces
    for ring in piece
  )


def _ring(ring: np.ndarray) -> str:
  """Returns a ring as a closed subpath; every step is along x or along y."""
  x, y = ring[0].tolist()
  steps = np.diff(ring, axis=0).tolist()
  return (
    f'M{x} {y}'
    + ''.join(f'h{dx}' if dx else f'v{dy}' for dx, dy in steps)
    + 'z'
  )


def _inlined(pixels: np.ndarray, kind: str, **options: Any) -> str:
  data = iio.imwrite('<bytes>', pixels, plugin='pillow', **options)
  return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'
