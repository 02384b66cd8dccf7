"""Adapts models to images whose cells differ in size from the training cells.

Also warns if the cells found are of unexpected size.
"""

import math

import numpy as np

from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace

# Scale factors closer to 1 than this are ignored.
_ALIKE = 1.05
# Median diameters that differ by at least this factor cause a warning.
_ODD = 1.6
# Below this number of cells, the median diameter says little.
_FEWEST = 5
# Largest factor by which cells may differ from the training cells.
_MOST = 20.0


def fitted(
  model: Model, diameter: float, pixel_size: tuple[float, float] | None
) -> Model:
  """Returns the model adapted to images of another scale.

  The adapted model still returns maps and labels in pixels of the image.

  Args:
    model: The model, as `load_model` returns it.
    diameter: Median cell diameter in the images, in pixels; 0 if unknown.
    pixel_size: Height and width of the images' pixels in um; None if unknown.
      Used only if no diameter is given and the training pixel size is known.

  Raises:
    ValueError: A diameter is given but the model does not know that of its
      training cells, or the scales differ by more than a factor of 20.
  """
  data = model.config.data
  factor = 1.0
  if diameter:
    if not data.diameter:
      raise ValueError(
        'the model does not know the diameter of its training cells '
        '(config.data.diameter in its config.json); leave --diameter out'
      )
    factor = diameter / data.diameter
  elif pixel_size and data.pixel_size:
    factor = data.pixel_size / math.sqrt(math.prod(pixel_size))
  if 1 / _ALIKE < factor < _ALIKE:
    return model
  if not 1 / _MOST <= factor <= _MOST:
    raise ValueError(
      f'cells would be {factor:.3g} times as large as in training '
      f'(median diameter {data.diameter:.3g} pixels of {data.pixel_size:.3g} '
      f'um); give their diameter in pixels (--diameter)'
    )
  # Rounded, so that few different programs are compiled.
  factor = float(f'{factor:.2g}')
  config = replace(
    model.config,
    data={'resample': data.resample / factor},
    decoding={
      'min_area': max(1, round(model.config.decoding.min_area * factor**2)),
      'rim': round(model.config.decoding.rim * factor),
    },
  )
  return model.replace(config=config)


def expected_diameter(
  model: Model, diameter: float, pixel_size: tuple[float, float] | None
) -> float:
  """Returns the expected median cell diameter in pixels; 0 if unknown.

  Args:
    model: The model, as `load_model` returns it.
    diameter: Median cell diameter given by the user, in pixels, which is
      returned as it is; 0 if none is given.
    pixel_size: Height and width of the images' pixels in um; None if unknown.
  """
  data = model.config.data
  if diameter or not (pixel_size and data.pixel_size):
    return diameter or data.diameter
  return data.diameter * data.pixel_size / math.sqrt(math.prod(pixel_size))


def with_holes_filled(model: Model) -> Model:
  """Returns the model configured to fill the holes of cells."""
  return model.replace(
    config=replace(model.config, decoding={'fill_holes': True})
  )


def oddity(areas: np.ndarray, expected: float) -> str:
  """Returns a warning if the cells differ much in size from what is expected.

  Args:
    areas: Area of each cell, in pixels.
    expected: Expected median diameter in pixels; 0 if unknown.

  Returns:
    The warning for the user, or '' if the size is unremarkable, the expected
    diameter is unknown or there are fewer than 5 cells.
  """
  if areas.size < _FEWEST or not expected:
    return ''
  diameter = math.sqrt(4 * np.median(areas) / math.pi)
  if 1 / _ODD < diameter / expected < _ODD:
    return ''
  return (
    f'the median cell is {diameter:.0f} pixels across, {expected:.0f} were '
    'expected from training; if these cells look wrong, say how large they are '
    '(--diameter)'
  )
