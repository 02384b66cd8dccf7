"""A model's figures on the images it was trained on and chosen on."""

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
  """Evaluates a model on both its splits.

  Args:
    model: Its own settings are not used.
    training: Images that it was trained on.
    validation: Images to choose the decoder's settings on, but for those that
      the model's config gives.

  Returns:
    `settings` as chosen, `trials` (the table of the search), and `validation`
    and `training`, each as `evaluate` returns.
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
  """Returns all maps of one image as host arrays."""
  maps = predict_maps(model, labelled.image)
  return {name: np.asarray(values) for name, values in maps.items()}


def scalars(evaluation: dict[str, Any]) -> dict[str, float]:
  """Returns the main figures of one split: ROC AUC, F1s, Dice."""
  return {
    'roc_auc': evaluation['roc_auc'],
    'f1': evaluation['f1']['0.5'],
    'mean_f1': evaluation['mean_f1'],
    'dice': evaluation['dice'],
  }
