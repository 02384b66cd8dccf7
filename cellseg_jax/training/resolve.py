"""What a config leaves to be derived from the training labels."""

import math

import numpy as np

from cellseg_jax.config import Config
from cellseg_jax.serialization import replace

# Cells of a few pixels are not magnified further: the memory needed grows with
# the square, and the network sees strides from 2 up.
MOST = 4.0


def resolve(
  config: Config, areas: np.ndarray, pixel_size: float = 0.0
) -> Config:
  """Sets the fields that follow from the cells.

  Args:
    config: As given.
    areas: Pixels of every training cell, int (K,); at least one.
    pixel_size: Side of their pixels in um, as their files say; 0 if unknown.

  Returns:
    The config with `data.resample` for the wanted `data.cell_diameter`, with
    `data.diameter` and `data.pixel_size` where they are 0, and with
    `decoding.min_area` and `decoding.rim` where they are -1.
  """
  data, decoding = {}, {}
  diameter = math.sqrt(4 * np.median(areas) / math.pi)
  data['diameter'] = config.data.diameter or round(diameter, 2)
  data['pixel_size'] = config.data.pixel_size or pixel_size
  if config.data.cell_diameter:
    factor = config.data.cell_diameter / diameter
    data['resample'] = float(np.clip(round(factor, 3), 0.05, MOST))
  resample = data.get('resample', config.data.resample)
  if config.decoding.min_area < 0:
    # Specks in hand-made labels must not set the scale.
    decoding['min_area'] = max(1, int(np.percentile(areas, 2) / 4))
  if config.decoding.rim < 0:
    decoding['rim'] = round(config.targets.gap / resample)
  return replace(config, data=data, decoding=decoding)
