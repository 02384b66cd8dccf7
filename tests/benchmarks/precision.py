"""Scores models with maps of full and of half precision.

  python tests/benchmarks/precision.py MODEL=DATA [MODEL=DATA...]

For each: pixel AUC and F1 of the validation images, with the network's maps in
float32 and in bfloat16, decoded with the settings of the model.
"""

import argparse
import json
import pathlib

import imageio.v3 as iio
import numpy as np

from cellseg_jax.evaluation import scores
from cellseg_jax.evaluation.roc import roc_curve
from cellseg_jax.images import formats
from cellseg_jax.inference.load import load_model
from cellseg_jax.inference.on_host import segment_image
from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('pairs', nargs='+', metavar='MODEL=DATA')
  parser.add_argument('--json', type=pathlib.Path, help='file to write')
  arguments = parser.parse_args()
  found = {}
  for pair in arguments.pairs:
    folder, _, data = pair.partition('=')
    model, name = load_model(folder), pathlib.Path(data).name
    found[name] = {}
    for compute in ('float32', 'bfloat16'):
      figures = score(model, pathlib.Path(data, 'validation'), compute)
      found[name][compute] = figures
      line = ', '.join(f'{key} {value:.4f}' for key, value in figures.items())
      print(f'{name}, {compute}: {line}', flush=True)
  if arguments.json:
    arguments.json.write_text(json.dumps(found, indent=1) + '\n')


def score(model: Model, images: pathlib.Path, compute: str) -> dict[str, float]:
  """Returns AUC and F1 over all images of a folder."""
  config = replace(model.config, model={'compute': compute})
  model = model.replace(config=config)
  counts, foregrounds, truths = [], [], []
  for path in formats.list_images(images / 'images'):
    labels = formats.read_labels(images / 'labels' / path.name)
    found, _, maps = segment_image(model, iio.imread(path))
    counts.append(scores.count(labels, found))
    foregrounds.append(maps['foreground'].ravel())
    truths.append(labels.ravel() > 0)
  f1 = scores.metrics(scores.pool(counts))['f1']
  return {
    'auc': roc_curve(*map(np.concatenate, (foregrounds, truths))).auc,
    **{f'f1@{iou}': f1[iou] for iou in ('0.5', '0.7', '0.8', '0.9')},
  }


if __name__ == '__main__':
  main()
