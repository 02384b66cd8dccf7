"""Evaluation of a model on its training and validation images.

Chooses the decoder's settings on the validation images, then computes the
metrics of both splits.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation.choose import choose_settings
from cellseg_jax.evaluation.evaluate import evaluate
from cellseg_jax.inference.decode import Maps
from cellseg_jax.inference.predict import Model, predict_maps

Images = Sequence[LabelledImage]


def assess(
  model: Model, training: Images, validation: Images
) -> dict[str, Any]:
  """Evaluates a model on its training and validation images.

  Args:
    model: The model; its own decoder settings are not used.
    training: Images that it was trained on.
    validation: Images on which to choose the decoder settings that the model's
      config leaves open.

  Returns:
    `settings`, the chosen ones; `trials`, the table of the search; `validation`
    and `training`, the dictionaries that `evaluate` returns for the splits.
  """
  decoding = model.config.decoding
  maps = [maps_of(model, image) for image in validation]
  settings, trials = choose_settings(maps, validation, decoding)
  on_validation = evaluate(maps, validation, decoding, settings)
  maps = [maps_of(model, image) for image in training]
  return {
    'settings': settings,
    'trials': [
      {**trial.settings, 'f1': trial.f1, 'mean_f1': trial.mean_f1}
      for trial in trials
    ],
    'validation': on_validation,
    'training': evaluate(maps, training, decoding, settings),
  }


def maps_of(model: Model, labelled: LabelledImage) -> Maps:
  """Returns all predicted maps of one image as NumPy arrays."""
  maps = predict_maps(model, labelled.image)
  return {name: np.asarray(values) for name, values in maps.items()}


def scalars(evaluation: dict[str, Any]) -> dict[str, float]:
  """Returns the main metrics of one split: ROC AUC, F1, mean F1 and Dice.

  Args:
    evaluation: The dictionary that `evaluate` returns.
  """
  return {
    'roc_auc': evaluation['roc_auc'],
    'f1': evaluation['f1']['0.5'],
    'mean_f1': evaluation['mean_f1'],
    'dice': evaluation['dice'],
  }
