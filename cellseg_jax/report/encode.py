"""Arrays as what pages hold: inlined pictures, and outlines as SVG paths."""

import base64
from collections.abc import Collection
import dataclasses
from typing import Any

import imageio.v3 as iio
import numpy as np
from skimage.transform import resize

from cellseg_jax.images.outlines import polygons

# Quality of JPEG: faint cells are still there, and edges have no ringing that
# would be taken for structure.
_QUALITY = 85
# Label value, as a page's script reads it, of pixels that do not count.
NOT_VALID = 2**24 - 1


@dataclasses.dataclass(frozen=True)
class Scale:
  """From the pixels of an image to those that a page shows.

  Attributes:
    height, width: Of the image.
    shown: Height and width in the page.
  """

  height: int
  width: int
  shown: tuple[int, int]

  @classmethod
  def fitting(cls, shape: tuple[int, ...], most: int) -> 'Scale':
    """The scale at which the longer side is `most` pixels, or as it is."""
    height, width = shape[:2]
    factor = min(1.0, most / max(height, width))
    shown = max(round(height * factor), 1), max(round(width * factor), 1)
    return cls(height, width, shown)

  def values(self, values: np.ndarray) -> np.ndarray:
    """Averages floats, (H, W) or (H, W, C)."""
    if values.shape[:2] == self.shown:
      return values
    return resize(values, self.shown, order=1, anti_aliasing=True)

  def labels(self, labels: np.ndarray) -> np.ndarray:
    """Takes the pixel in the middle of each shown one, (H, W)."""
    rows, columns = (
      (np.arange(shown) * 2 + 1) * side // (2 * shown)
      for shown, side in zip(self.shown, (self.height, self.width), strict=True)
    )
    return labels[rows[:, None], columns]


def jpeg(picture: np.ndarray) -> str:
  """Returns floats, 0 to 1, (H, W) or (H, W, 3), as an inlined JPEG."""
  pixels = np.rint(255 * np.clip(picture, 0, 1)).astype(np.uint8)
  return _inlined(
    pixels, 'jpeg', extension='.jpg', quality=_QUALITY, optimize=True
  )


def png(pixels: np.ndarray) -> str:
  """Returns uint8, (H, W) or (H, W, 3), as an inlined PNG, exactly."""
  return _inlined(pixels, 'png', extension='.png', optimize=True)


def probability_png(probability: np.ndarray) -> str:
  """Returns 0 to 1, (H, W), as an inlined grey PNG of 8 bits."""
  return png(np.rint(255 * np.clip(probability, 0, 1)).astype(np.uint8))


def labels_png(labels: np.ndarray, valid: np.ndarray) -> str:
  """Returns labels, (H, W), as an inlined PNG: red + 256 green + 65536 blue.

  Args:
    labels: Integers below `NOT_VALID`.
    valid: bool (H, W); other pixels become `NOT_VALID`.
  """
  values = np.where(valid, labels, NOT_VALID).astype(np.uint32)
  parts = [(values >> shift) & 255 for shift in (0, 8, 16)]
  return png(np.stack(parts, axis=-1).astype(np.uint8))


def outline_path(labels: np.ndarray, chosen: Collection[int]) -> str:
  """Returns the outlines of some cells as the data of one SVG path.

  Its coordinates are pixels; the first pixel spans 0 to 1.

  Args:
    labels: Integers (H, W).
    chosen: Label values.
  """
  kept = np.where(np.isin(labels, list(chosen)), labels, 0)
  return ''.join(
    _ring(ring)
    for pieces in polygons(kept).values()
    for piece in pieces
    for ring in piece
  )


def _ring(ring: np.ndarray) -> str:
  """A closed way along sides of pixels: every step is along x or along y."""
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
