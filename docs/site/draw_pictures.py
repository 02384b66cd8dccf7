"""Draws the pictures of "Mend bad results" from a simulated colony.

    python docs/site/draw_pictures.py --model runs/colonies

where the model is that of the tutorial on simulated colonies.
"""

import argparse
import pathlib
from typing import Any

import imageio.v3 as iio
import numpy as np

import cellseg_jax
from cellseg_jax.datasets.simulated import simulate_colony
from cellseg_jax.evaluation.error_pictures import draw_errors
from cellseg_jax.images import pictures
from cellseg_jax.inference.decode import decode
from cellseg_jax.inference.predict import Model, predict_maps
from cellseg_jax.inference.scale import fitted
from cellseg_jax.serialization import replace

PICTURES = pathlib.Path(__file__).parents[1] / 'pictures'
SEED = 101
# The part that is shown: a crowded corner.
SHOWN = np.s_[450:770, 330:650]

# What is done to the decoder's config and to its settings to go wrong so.
FAULTS: dict[str, tuple[dict[str, Any], dict[str, float]]] = {
  'right': ({}, {}),
  'merged': ({'method': 'components'}, {'threshold': 0.5}),
  'split': ({}, {'depth': 0.005, 'centre_share': 0.0, 'confidence': 0.0}),
  'missed': ({}, {'confidence': 0.74}),
  'extra': ({'min_area': 20}, {'confidence': 0.0, 'threshold': 0.1}),
  'inexact': ({}, {'threshold': 0.97}),
}


def main() -> None:
  """Draws them all."""
  parser = argparse.ArgumentParser(description=__doc__)
  parser.add_argument('--model', required=True, metavar='DIR')
  parser.add_argument('--out', type=pathlib.Path, default=PICTURES)
  arguments = parser.parse_args()
  arguments.out.mkdir(parents=True, exist_ok=True)
  model = cellseg_jax.load_model(arguments.model)
  image, truth = simulate_colony(SEED)
  for name, picture in draw(model, image, truth).items():
    iio.imwrite(arguments.out / f'{name}.png', picture[SHOWN])


def draw(
  model: Model, image: np.ndarray, truth: np.ndarray
) -> dict[str, np.ndarray]:
  """Returns a picture of each fault by name, uint8 (H, W, 3)."""
  maps = _maps(model, image)
  drawn = {
    name: draw_errors(truth, _decoded(model, maps, *changes), image)
    for name, changes in FAULTS.items()
  }
  # As though the cells of the file were less than half as large.
  small = fitted(model, 0.4 * model.config.data.diameter, None)
  drawn['size'] = draw_errors(
    truth, _decoded(small, _maps(small, image), {}, {}), image
  )
  drawn['labels'] = pictures.overlay(image, np.roll(truth, (14, 18), (0, 1)))
  return drawn


def _maps(model: Model, image: np.ndarray) -> dict[str, np.ndarray]:
  maps = predict_maps(model, image)
  return {name: np.asarray(values) for name, values in maps.items()}


def _decoded(
  model: Model,
  maps: dict[str, np.ndarray],
  config: dict[str, Any],
  settings: dict[str, float],
) -> np.ndarray:
  changed = replace(model.config, decoding=config).decoding
  return decode(maps, changed, model.choices | settings)


if __name__ == '__main__':
  main()
