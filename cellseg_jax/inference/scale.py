"""Images whose cells are larger or smaller than those trained on."""

import math

import numpy as np

from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace

# Cells of a file are as large as in training if sizes differ by less.
_ALIKE = 1.05
# Median diameters that differ by this factor are remarked on.
_ODD = 1.6
# Fewer cells say little about their size.
_FEWEST = 5
_MOST = 20.0


def fitted(
  model: Model, diameter: float, pixel_size: tuple[float, float] | None
) -> Model:
  """Returns the model for images of another scale.

  What it gives stays in pixels of the image.

  Args:
    model: As `load_model` returns.
    diameter: That of the median cell in the images, in pixels; 0 if unknown.
    pixel_size: Height and width in um of their pixels; None if unknown. It
      counts where no diameter is given and the training's is known.

  Raises:
    ValueError: A diameter is given and the model does not know the training
      cells', or the scale is out of all proportion.
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
  # Few different factors, so that few programs are compiled.
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
  """Returns the median diameter to expect, in pixels; 0 where not known."""
  data = model.config.data
  if diameter or not (pixel_size and data.pixel_size):
    return diameter or data.diameter
  return data.diameter * data.pixel_size / math.sqrt(math.prod(pixel_size))


def with_holes_filled(model: Model) -> Model:
  """Returns the model with a decoder that fills the holes of cells."""
  return model.replace(
    config=replace(model.config, decoding={'fill_holes': True})
  )


def oddity(areas: np.ndarray, expected: float) -> str:
  """Says, for people, that cells are far from the size trained on.

  Args:
    areas: Pixels of each cell.
    expected: Median diameter in pixels; 0 if unknown.

  Returns:
    A sentence, or '' where there is nothing to say.
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
