"""Derives the config fields that depend on the training labels.

Training resolves its config right after it has loaded the images; the resolved
config is what a run's folder keeps.
"""

import math

import numpy as np

from cellseg_jax.config import Config
from cellseg_jax.serialization import replace

# Largest magnification of images. Cells of a few pixels are not magnified
# further, since memory grows with the square of the factor and the network's
# feature maps start at stride 2.
MOST = 4.0


def resolve(
  config: Config, areas: np.ndarray, pixel_size: float = 0.0
) -> Config:
  """Sets the config fields that follow from the labelled cells.

  Args:
    config: The config as the user gave it.
    areas: Area of every training cell in pixels, int (K,); at least one cell.
    pixel_size: Side of a training image's pixel in um, as its file states; 0 if
      unknown.

  Returns:
    The config with `data.resample` set to reach `data.cell_diameter` if that is
    not 0, with `data.diameter` and `data.pixel_size` set if they are 0, and
    with `decoding.min_area` and `decoding.rim` set if they are -1.
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
