"""Evaluates a run's models, and writes the evaluation and the figures.

`updates` evaluates models during a run; `loop.finish` writes the results of the
best one.
"""

from collections.abc import Mapping, Sequence
import dataclasses
import functools
import json
import pathlib
from typing import Any

import jax
import numpy as np

from cellseg_jax.atomic import replace_json, replace_text
from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import Splits
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.evaluation import figures
from cellseg_jax.evaluation.assess import assess
from cellseg_jax.evaluation.evaluate import roc_from
from cellseg_jax.evaluation.look import chosen, Look, look
from cellseg_jax.inference.on_host import segment_image
from cellseg_jax.inference.predict import Model
from cellseg_jax.inside import inside
from cellseg_jax.training.step import draw

# Maximum number of validation images in the figures; more take time to draw and
# are hardly looked at.
MOST_DRAWN = 4
# Maximum number of training images that are evaluated; beside the validation
# scores, theirs only show how far the network has memorised the images.
MOST_ASSESSED = 32


@dataclasses.dataclass(frozen=True, eq=False)
class Evaluated:
  """A model with its evaluation.

  Attributes:
    model: The model after some updates.
    evaluation: The evaluation, as `evaluate_step` returns it.
    splits: The images of the run.
  """

  model: Model
  evaluation: dict[str, Any]
  splits: Splits

  @functools.cached_property
  def looks(self) -> list[Look]:
    """Validation images as the model segments them; a sample if many."""
    return [
      look(self.model, image, self.evaluation['settings'])
      for image in chosen(self.splits.validation)
    ]


def write_results(
  workdir: pathlib.Path, model: Model, step: int, splits: Splits
) -> dict[str, Any]:
  """Writes `evaluation.json`, `decoding.csv` and `figures/` of a model.

  An `evaluation.json` of the same step is not computed again.

  Args:
    workdir: Folder of the run.
    model: The best model of the run.
    step: The update that the model was saved after.
    splits: The images of the run.

  Returns:
    The contents of `evaluation.json`.
  """
  path = workdir / 'evaluation.json'
  evaluation = read_evaluation(path)
  if evaluation.get('step') != step:
    evaluation = evaluate_step(model, step, splits)
    write_evaluation(path, evaluation)
  write_trials(workdir / 'decoding.csv', evaluation['trials'])
  # In a folder received from others, figures/ may be a symbolic link.
  folder = inside(workdir, 'figures/training_image.png').parent
  write_figures(folder, model, evaluation, splits)
  return evaluation


def write_trials(
  path: pathlib.Path, trials: Sequence[Mapping[str, float]]
) -> None:
  """Writes a CSV of the decoder settings tried, one per row, best first.

  Args:
    path: CSV to write.
    trials: Settings and scores of each trial, by column; `mean_f1` ranks them.
  """
  rows = sorted(trials, key=lambda trial: -trial['mean_f1'])
  lines = [','.join(rows[0])]
  lines += [','.join(f'{value:.6g}' for value in row.values()) for row in rows]
  replace_text(path, '\n'.join(lines) + '\n')


def evaluate_step(model: Model, step: int, splits: Splits) -> dict[str, Any]:
  """Evaluates a model on all validation images and some training images.

  Args:
    model: The model after `step` updates.
    step: Updates made.
    splits: The images of the run.

  Returns:
    The contents of `evaluation.json`: `step`, `validation_source`, and what
    `evaluation.assess.assess` returns.
  """
  every = -(-len(splits.train) // MOST_ASSESSED)
  return {
    'step': step,
    'validation_source': splits.validation_source,
    **assess(model, splits.train[::every], splits.validation),
  }


def read_evaluation(path: pathlib.Path) -> dict[str, Any]:
  """Reads `evaluation.json`; returns {} if the file does not exist."""
  return json.loads(path.read_text()) if path.exists() else {}


def write_evaluation(path: pathlib.Path, evaluation: Mapping[str, Any]) -> None:
  """Writes `evaluation.json` atomically."""
  replace_json(path, evaluation)


def write_figures(
  folder: pathlib.Path,
  model: Model,
  evaluation: dict[str, Any],
  splits: Splits,
) -> None:
  """Draws the case study's figures for a run.

  They show the first training image, an augmented crop of it, and predictions
  and segmentations of the first validation images.

  Args:
    folder: Folder for the PNG files; created if absent.
    model: The best model of the run.
    evaluation: Its evaluation, as `evaluate_step` returns it.
    splits: The images of the run.
  """
  folder.mkdir(exist_ok=True)
  figures.training_image(folder / 'training_image.png', splits.train[0])
  _draw_augmentation(folder / 'augmentation.png', splits.train[0], model.config)
  curves = [roc_from(evaluation[split]) for split in ('training', 'validation')]
  for labelled in splits.validation[:MOST_DRAWN]:
    image = labelled.image
    labels, _, maps = segment_image(model, image)
    probability = maps['foreground']
    figures.prediction(
      inside(folder, f'prediction_{labelled.name}.png'), image, probability
    )
    figures.segmentation(
      inside(folder, f'segmentation_{labelled.name}.png'),
      image,
      probability,
      labels,
      *curves,
    )


def _draw_augmentation(
  path: pathlib.Path, labelled: LabelledImage, config: Config
) -> None:
  """Draws a training image beside an augmented crop of it."""
  pool = build_pool([labelled], config)
  first = jax.jit(draw, static_argnums=3)(0, np.arange(8), pool, config)
  batch = jax.device_get(first)
  # Of a few crops that with most cells: some show background alone.
  fullest = batch.targets[..., 0].mean(axis=(1, 2)).argmax()
  figures.augmentation(
    path,
    labelled.image,
    batch.images[fullest],
    batch.targets[fullest, ..., 0],
    batch.weights[fullest],
  )
