"""Learning curve: how the score grows with the number of training images."""

from collections.abc import Mapping, Sequence
import dataclasses
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.atomic import replace_json
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.load import load_whole, Splits
from cellseg_jax.datasets.survey import survey
from cellseg_jax.evaluation.assess import scalars
from cellseg_jax.studies import curve, figures, tables
from cellseg_jax.studies.runs import (
  check_data,
  config_of_run,
  make_runs,
  resolve_once,
  with_cells,
)
from cellseg_jax.training.results import read_evaluation


def learning_curve(
  config: Config, out: pathlib.Path, numbers: Sequence[int], seeds: int
) -> dict[str, Any]:
  """Trains on growing subsets of the images and fits a curve to the scores.

  Each seed has its own random order of the images, the first n of which are its
  subset of n images, and its own initial weights and crops. Images without a
  labelled cell are not used. Scores are measured on the validation images, on
  which the decoder's settings are also chosen, as in every training.

  Args:
    config: The config of the runs.
    out: Folder for the runs and for `learning_curve.json`, `.csv` and `.png`.
    numbers: Numbers of images, increasing.
    seeds: Number of subsets, each with its own seed, of each size.

  Returns:
    The contents of the JSON file: `steps`, the length of the runs; `runs`, the
    number of images, seed, number of cells, scores and image names of each run;
    and `points`, `fit` and `one_more`, as `curve.describe` returns them.

  Raises:
    ConfigError: There are too few images, they have changed since the first
      run, or a field is invalid.
    LabelError: Training images or labels are faulty.
    TrainingError: Too many updates in a row were skipped.
    Interrupted: A signal asked to stop; the current runs are saved.
  """
  splits = load_whole(config.data)
  splits = dataclasses.replace(splits, train=tuple(with_cells(splits.train)))
  _check(splits, numbers, config)
  check_data(out, splits)
  drawn = {
    out / 'runs' / f'images{number}-seed{seed}': (seed, chosen)
    for seed in range(seeds)
    for number, chosen in subsets(splits, numbers, seed).items()
  }
  make_runs(
    {
      workdir: _config_of(config, splits, chosen, seed)
      for workdir, (seed, chosen) in drawn.items()
    },
    splits.train,
  )
  runs = [
    _row(workdir, splits, chosen, seed)
    for workdir, (seed, chosen) in drawn.items()
  ]
  report = {
    'steps': config.training.steps,
    'runs': runs,
    **curve.describe(runs),
  }
  replace_json(out / 'learning_curve.json', report)
  tables.write_csv(
    out / 'learning_curve.csv',
    [{**run, 'names': ' '.join(run['names'])} for run in runs],
  )
  figures.learning_curve(out / 'learning_curve.png', report)
  return report


def _config_of(
  config: Config, splits: Splits, chosen: Sequence[str], seed: int
) -> Config:
  """Returns the config of the run on the chosen images."""
  images = [image for image in splits.train if image.name in chosen]
  resolved = resolve_once(config, images, splits.pixel_size)
  return config_of_run(resolved, chosen, config.training.seed + seed)


def _row(
  workdir: pathlib.Path, splits: Splits, chosen: Sequence[str], seed: int
) -> dict[str, Any]:
  """Returns the report's row of one run."""
  images = [image for image in splits.train if image.name in chosen]
  evaluation = read_evaluation(workdir / 'evaluation.json')['validation']
  return {
    'images': len(images),
    'seed': seed,
    'cells': int(survey(images).areas.size),
    **scalars(evaluation),
    'names': list(chosen),
  }


def subsets(
  splits: Splits, numbers: Sequence[int], seed: int
) -> dict[int, list[str]]:
  """Draws growing subsets of the training images, each within the next.

  Args:
    splits: The images of the study.
    numbers: Sizes of the subsets.
    seed: Seed of the random order of the images.

  Returns:
    Sorted image names of each subset, by its size.
  """
  names = [image.name for image in splits.train]
  order = np.random.default_rng(seed).permutation(len(names))
  return {n: sorted(names[i] for i in order[:n]) for n in numbers}


def summary(report: Mapping[str, Any]) -> str:
  """Formats the scores, the fitted curve and the expected gain as text."""
  lines = [
    f'{point["images"]} images: mean F1 {point["mean"]:.3f} '
    f'({point["lowest"]:.3f} to {point["highest"]:.3f})'
    for point in report['points']
  ]
  if report['fit'] is None:
    lines.append('A curve takes three numbers of images at least')
    return '\n'.join(lines)
  fitted, more = report['fit'], report['one_more']
  spread = ''
  if 'lowest' in more:
    spread = f' ({more["lowest"]:+.4f} to {more["highest"]:+.4f} by seed)'
  lines.append(
    f'Fitted: {fitted["a"]:.3f} - {fitted["b"]:.3f} n^-{fitted["c"]:.2f}; '
    f'image {more["to"]} should bring {more["gain"]:+.4f}{spread}'
  )
  return '\n'.join(lines)


def _check(splits: Splits, numbers: Sequence[int], config: Config) -> None:
  """Checks that the largest subset leaves an image to score its run on.

  Raises:
    ConfigError: It does not, or there are fewer images than it needs.
  """
  there = len(splits.train)
  most = there if splits.validation else there - 1
  if numbers[-1] <= most:
    return
  if splits.validation:
    raise ConfigError(
      f'--images asks for {numbers[-1]} images, but there are {there} in split '
      f'{config.data.train_split!r}'
    )
  raise ConfigError(
    f'--images asks for {numbers[-1]} of {there} images and leaves none to '
    f'score on; ask for at most {most}, or give validation images'
  )
