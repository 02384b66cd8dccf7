"""A model's figures on the images it was trained on and chosen on."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation.evaluate import choose_threshold, evaluate
from cellseg_jax.inference.predict import Model, predict

Images = Sequence[LabelledImage]


def assess(
  model: Model, training: Images, validation: Images
) -> dict[str, Any]:
  """Evaluates a model on both its splits.

  Args:
    model: Its own threshold is not used.
    training: Images that it was trained on.
    validation: Images to choose the threshold on, unless the model's config
      gives one.

  Returns:
    `threshold`, and `validation` and `training`, each as `evaluate` returns.
  """
  decoding = model.config.decoding
  maps = [np.asarray(predict(model, image.image)) for image in validation]
  threshold = decoding.threshold or choose_threshold(maps, validation, decoding)
  on_validation = evaluate(maps, validation, decoding, threshold)
  maps = [np.asarray(predict(model, image.image)) for image in training]
  return {
    'threshold': threshold,
    'validation': on_validation,
    'training': evaluate(maps, training, decoding, threshold),
  }


def scalars(evaluation: dict[str, Any]) -> dict[str, float]:
  """Returns the main figures of one split: ROC AUC, F1 at IoU 0.5, Dice."""
  return {
    'roc_auc': evaluation['roc_auc'],
    'f1': evaluation['f1']['0.5'],
    'dice': evaluation['dice'],
  }
