"""Asks whether the image that models disagree on is the one to label next.

  python tests/benchmarks/next_image.py --data FOLDER --out OUT

FOLDER holds `train/` and `validation/`. Each repetition draws a few training
images as the labelled ones and ranks the others as `cellseg audit
--unlabelled` does. Then a model is trained on the labelled images and one more,
for every other image: so what a random choice is worth is known exactly, as the
mean over them, and not drawn. A stopped call goes on.
"""

import argparse
import json
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.cli import process
from cellseg_jax.config import Config
from cellseg_jax.datasets.load import load_whole
from cellseg_jax.experiments import cells
from cellseg_jax.images import formats
from cellseg_jax.inference.ensemble import ensemble
from cellseg_jax.serialization import replace
from cellseg_jax.studies.curve import SCORE
from cellseg_jax.studies.disagreement import rank_images
from cellseg_jax.studies.held_out import leave_one_out
from cellseg_jax.studies.runs import (
  config_of_run,
  make_runs,
  resolve_once,
  with_cells,
)
from cellseg_jax.training.results import read_evaluation


def repeat(
  config: Config, out: pathlib.Path, labelled: int, seed: int
) -> dict[str, Any]:
  """Makes one repetition.

  Args:
    config: Of the runs, on a folder of `train/` and `validation/`.
    out: Folder of the repetition.
    labelled: How many images are labelled at first.
    seed: Draws them, and is that of the runs.

  Returns:
    `labelled`, names; `ranked`, disagreement by the name of each other image,
    the highest first; `scores`, by the name of the image that was added.
  """
  splits = load_whole(config.data)
  images = with_cells(splits.train)
  names = [image.name for image in images]
  drawn = np.random.default_rng(seed).permutation(len(names))[:labelled]
  first = sorted(names[i] for i in drawn)
  others = [name for name in names if name not in first]
  config = replace(
    config, data={'train_images': ','.join(first)}, training={'seed': seed}
  )
  held = leave_one_out(config, out)
  files = {
    path.stem: path
    for path in formats.list_images(
      pathlib.Path(config.data.path) / 'train' / 'images'
    )
  }
  model = ensemble([one.model for one in held])
  ranked = rank_images(model, [files[name] for name in others], out)
  runs = {}
  for name in others:
    chosen = [image for image in images if image.name in (*first, name)]
    resolved = resolve_once(config, chosen, splits.pixel_size)
    runs[out / 'runs' / name] = config_of_run(resolved, [*first, name], seed)
  make_runs(runs, images)
  scores = {}
  for name, workdir in zip(others, runs, strict=True):
    evaluation = read_evaluation(workdir / 'evaluation.json')['validation']
    scores[name] = float(evaluation[SCORE])
  return {
    'seed': seed,
    'labelled': first,
    'ranked': {pathlib.Path(file).stem: one for file, one in ranked.items()},
    'scores': scores,
  }


def describe(repetition: dict[str, Any]) -> dict[str, float]:
  """Returns what the choice brought beside a random one.

  Args:
    repetition: As `repeat` returns.

  Returns:
    `chosen`, the score with the image that came first; `random`, the mean over
    all; `best` and `worst`.
  """
  scores = repetition['scores']
  return {
    'chosen': scores[next(iter(repetition['ranked']))],
    'random': float(np.mean(list(scores.values()))),
    'best': max(scores.values()),
    'worst': min(scores.values()),
  }


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--labelled', type=int, default=3)
  parser.add_argument('--repetitions', type=int, default=2)
  parser.add_argument('--steps', type=int, default=200)
  arguments = parser.parse_args()
  process.prepare()
  config = replace(
    cells(),
    data={'path': str(arguments.data)},
    training={'steps': arguments.steps},
  )
  made = []
  for seed in range(arguments.repetitions):
    folder = arguments.out / f'repetition{seed}'
    made.append(repeat(config, folder, arguments.labelled, seed))
    found = describe(made[-1])
    print(
      f'repetition {seed}: '
      + ', '.join(f'{name} {value:.4f}' for name, value in found.items()),
      flush=True,
    )
  path = arguments.out / 'next_image.json'
  path.write_text(
    json.dumps({'steps': arguments.steps, 'made': made}, indent=1) + '\n'
  )
  gains = [found['chosen'] - found['random'] for found in map(describe, made)]
  print(
    f'chosen less random: {np.mean(gains):+.4f} '
    f'({min(gains):+.4f} to {max(gains):+.4f})'
  )


if __name__ == '__main__':
  main()
