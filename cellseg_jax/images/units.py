"""Conversion of pixel sizes, as files state them, to micrometres."""

from collections.abc import Sequence
import math
from typing import Any

_MICROMETRES = {
  'pm': 1e-6,
  'picometer': 1e-6,
  'å': 1e-4,
  'angstrom': 1e-4,
  'nm': 1e-3,
  'nanometer': 1e-3,
  'um': 1.0,
  'µm': 1.0,  # Micro sign.
  'μm': 1.0,  # Greek mu.
  '\\u00b5m': 1.0,  # As ImageJ escapes it.
  'micron': 1.0,
  'microns': 1.0,
  'micrometer': 1.0,
  'mm': 1e3,
  'millimeter': 1e3,
  'cm': 1e4,
  'centimeter': 1e4,
  'inch': 25_400.0,
  'm': 1e6,
  'meter': 1e6,
}


def pixel_size_of(
  lengths: Sequence[Any], units: Sequence[str | None]
) -> tuple[float, float] | None:
  """Returns the height and width of a pixel in um, or None if unknown.

  Args:
    lengths: Height and width, as numbers or strings.
    units: The unit of each.

  Examples:
    >>> pixel_size_of((650, '650'), ('nm', 'nm'))
    (0.65, 0.65)
  """
  sizes = []
  for length, unit in zip(lengths, units, strict=True):
    factor = _MICROMETRES.get(str(unit).lower().replace('metre', 'meter'))
    try:
      size = float(length) * (factor or math.nan)
    except (TypeError, ValueError):
      return None
    if not 0 < size < math.inf:
      return None
    sizes.append(round(size, 12))
  height, width = sizes
  return height, width
