"""Images and label images as pictures for display. NumPy and SciPy only."""

from collections.abc import Sequence
import colorsys

import numpy as np
from scipy import ndimage

from cellseg_jax.images.outlines import boundary

Colour = tuple[float, float, float]

# If the median cell has more pixels, outlines are two pixels wide: such images
# are usually displayed at a smaller scale.
_LARGE = 1000

# Matplotlib's ten colours, for filled cells on black.
FILL_COLOURS: tuple[Colour, ...] = (
  (0.122, 0.467, 0.706),
  (1.000, 0.498, 0.055),
  (0.173, 0.627, 0.173),
  (0.839, 0.153, 0.157),
  (0.580, 0.404, 0.741),
  (0.549, 0.337, 0.294),
  (0.890, 0.467, 0.761),
  (0.498, 0.498, 0.498),
  (0.737, 0.741, 0.133),
  (0.090, 0.745, 0.812),
)
# Bright, saturated colours, for thin lines on a grey image.
LINE_COLOURS: tuple[Colour, ...] = (
  (1.00, 0.88, 0.10),
  (0.10, 0.90, 1.00),
  (1.00, 0.35, 0.85),
  (0.45, 1.00, 0.30),
  (1.00, 0.50, 0.15),
  (0.55, 0.60, 1.00),
)


def grey(image: np.ndarray) -> np.ndarray:
  """Returns an image's brightness for display.

  It is the mean of its channels, each stretched between its percentiles 1 and
  99.8.

  Args:
    image: Intensities in any range, (H, W) or (H, W, C).

  Returns:
    float64 (H, W), 0 to 1; a constant channel counts as 0.
  """
  channels = image[..., None] if image.ndim == 2 else image
  channels = channels.astype(np.float64)
  low, high = np.percentile(channels[::2, ::2], (1, 99.8), axis=(0, 1))
  flat = high <= low
  scaled = (channels - low) / np.where(flat, 1, high - low)
  return np.clip(np.where(flat, 0, scaled), 0, 1).mean(axis=-1)


def overlay(image: np.ndarray, labels: np.ndarray) -> np.ndarray:
  """Draws the outlines of the cells on the image.

  Args:
    image: Intensities in any range, (H, W) or (H, W, C).
    labels: Integers (H, W); 0 is background, labels need not be consecutive.

  Returns:
    uint8 (H, W, 3); outlines lie within their cells, and cells that touch or
    are close have outlines of different colours.
  """
  # Faint cells must be visible beside bright ones, and lines on both.
  picture = np.repeat(0.85 * grey(image)[..., None] ** 0.7, 3, axis=-1)
  outline = boundary(labels)
  _, areas = np.unique(labels[labels > 0], return_counts=True)
  if areas.size and np.median(areas) > _LARGE:
    outline = ndimage.binary_dilation(outline) & (labels > 0)
  lines = np.where(outline, labels, 0)
  picture[outline] = label_colours(lines, LINE_COLOURS)[outline]
  return (255 * picture + 0.5).astype(np.uint8)


def label_colours(
  labels: np.ndarray, palette: Sequence[Colour] = FILL_COLOURS
) -> np.ndarray:
  """Colours every cell; touching and close cells get different colours.

  Args:
    labels: Integer (H, W); 0 is background and becomes black.
    palette: The colours to choose from; more hues are added if they run out.

  Returns:
    RGB, float64 (H, W, 3), 0 to 1; deterministic.
  """
  values, index = np.unique(labels, return_inverse=True)
  index = index.reshape(labels.shape) + int(values[0] != 0)
  neighbours = _lower_neighbours(index)
  random = np.random.default_rng(0)
  chosen: dict[int, int] = {}
  for cell in range(1, index.max() + 1):
    taken = {chosen[other] for other in neighbours.get(cell, ())}
    free = set(range(max(len(palette), len(taken) + 1))) - taken
    chosen[cell] = int(random.choice(sorted(free)))
  colours = [_colour(number, palette) for number in chosen.values()]
  return np.array([(0.0, 0.0, 0.0), *colours])[index]


def _colour(number: int, palette: Sequence[Colour]) -> Colour:
  """Returns a colour of the palette, or a further hue beyond its end."""
  if number < len(palette):
    return palette[number]
  return colorsys.hsv_to_rgb(number * 0.618034 % 1, 0.5, 1)  # Golden ratio.


def _lower_neighbours(labels: np.ndarray, reach: int = 4) -> dict[int, set]:
  """Finds, for each label, the lower labels that are close to it.

  Close is up to `reach` pixels away along a row, column or diagonal.
  """
  neighbours: dict[int, set] = {}
  for step in range(1, reach + 1):
    here, back = np.s_[:-step], np.s_[step:]
    for a, b in (
      (labels[here], labels[back]),
      (labels[:, here], labels[:, back]),
      (labels[here, here], labels[back, back]),
      (labels[here, back], labels[back, here]),
    ):
      meet = (a != b) & (a > 0) & (b > 0)
      for pair in set(zip(a[meet].tolist(), b[meet].tolist(), strict=True)):
        neighbours.setdefault(max(pair), set()).add(min(pair))
  return neighbours
