"""The figures of merit of a model on labelled images."""

from collections.abc import Sequence
import functools
import operator
from typing import Any

import numpy as np

from cellseg_jax.config import DecodingConfig
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation import matching
from cellseg_jax.evaluation import roc as roc_lib
from cellseg_jax.inference import decode


def evaluate(
  probabilities: Sequence[np.ndarray],
  images: Sequence[LabelledImage],
  decoding: DecodingConfig,
  threshold: float,
) -> dict[str, Any]:
  """Measures probabilities, and the label images decoded from them.

  Only valid pixels count. Pixels and cells are pooled over the images.

  Args:
    probabilities: Of being cell, one float (H, W) an image, 0 to 1.
    images: The labelled images, in the same order.
    decoding: How to decode; its own threshold is not used.
    threshold: Probability above which a pixel is cell.

  Returns:
    Plain values, ready for JSON:
      roc_auc: Area under the pixelwise ROC.
      tpr_at_fpr: True positive rate at the false positive rates '0.01',
        '0.02', '0.05' and '0.1'.
      roc_curve: The lists `fpr`, `tpr` and `thresholds`, up to 500 points;
        `roc_from` makes a curve of them again.
      f1: F1 of the cells at the IoU thresholds '0.5', '0.55', ... '0.95'.
      dice: Dice coefficient of the decoded cells' pixels.
      threshold: As given.
      images: For each image its `name`, `roc_auc` (None where all its pixels
        are of one class), `f1` at IoU 0.5, `true_cells` and
        `predicted_cells`.

  Raises:
    ValueError: Numbers or shapes differ, a probability is NaN, or all pixels
      of all images are of one class.
  """
  _check(probabilities, images)
  counts = [
    _match(probability, image, decoding, threshold)
    for probability, image in zip(probabilities, images, strict=True)
  ]
  total = functools.reduce(operator.add, counts)
  return {
    **_roc_of(probabilities, images),
    'f1': {f'{iou:g}': value for iou, value in matching.f1(total).items()},
    'dice': matching.dice(total),
    'threshold': float(threshold),
    'images': [
      _of_image(*one) for one in zip(probabilities, images, counts, strict=True)
    ],
  }


def roc_from(evaluation: dict[str, Any]) -> roc_lib.Roc:
  """Returns the ROC curve, thinned, that an `evaluate` result holds."""
  curve = evaluation['roc_curve']
  return roc_lib.Roc(
    auc=evaluation['roc_auc'],
    **{name: np.array(values) for name, values in curve.items()},
  )


def choose_threshold(
  probabilities: Sequence[np.ndarray],
  images: Sequence[LabelledImage],
  decoding: DecodingConfig,
) -> float:
  """Chooses the threshold of the highest F1 at IoU 0.5, cells pooled.

  Among equals the one of the highest mean F1 over IoU 0.5 to 0.9 is taken, and
  then the one nearest to 0.5.

  Args:
    probabilities: Of being cell, one float (H, W) an image, 0 to 1.
    images: The labelled images, in the same order.
    decoding: How to decode; its own threshold is not used.

  Returns:
    One of 0.05, 0.1, ... 0.95.

  Raises:
    ValueError: Numbers or shapes differ, or a probability is NaN.
  """
  _check(probabilities, images)

  def merit(twentieths: int) -> tuple[float, float, int]:
    counts = (
      _match(probability, image, decoding, twentieths / 20)
      for probability, image in zip(probabilities, images, strict=True)
    )
    scores = matching.f1(functools.reduce(operator.add, counts))
    mean = float(np.mean([v for iou, v in scores.items() if iou <= 0.9]))
    return scores[0.5], mean, -abs(twentieths - 10)

  return max(range(1, 20), key=merit) / 20


def _check(
  probabilities: Sequence[np.ndarray], images: Sequence[LabelledImage]
) -> None:
  if len(probabilities) != len(images) or not images:
    raise ValueError(
      'evaluation needs one probability map for each of at least one image, '
      f'found {len(probabilities)} maps and {len(images)} images'
    )
  for probability, image in zip(probabilities, images, strict=True):
    if probability.shape != image.labels.shape:
      raise ValueError(
        f'{image.name}: probabilities are {probability.shape}, labels '
        f'{image.labels.shape}'
      )


def _roc_of(
  probabilities: Sequence[np.ndarray], images: Sequence[LabelledImage]
) -> dict[str, Any]:
  roc = roc_lib.roc_curve(
    np.concatenate([probability.ravel() for probability in probabilities]),
    np.concatenate([image.labels.ravel() > 0 for image in images]),
    np.concatenate([image.valid.ravel() for image in images]),
  )
  thinned = roc_lib.thin(roc)
  return {
    'roc_auc': roc.auc,
    'tpr_at_fpr': {
      f'{fpr:g}': roc_lib.tpr_at_fpr(roc, fpr)
      for fpr in roc_lib.FALSE_POSITIVE_RATES
    },
    'roc_curve': {
      name: getattr(thinned, name).tolist()
      for name in ('fpr', 'tpr', 'thresholds')
    },
  }


def _match(
  probability: np.ndarray,
  image: LabelledImage,
  decoding: DecodingConfig,
  threshold: float,
) -> matching.MatchCounts:
  predicted = decode.decode(probability, decoding, threshold)
  return matching.match(image.labels, predicted, image.valid)


def _of_image(
  probability: np.ndarray,
  image: LabelledImage,
  counts: matching.MatchCounts,
) -> dict[str, Any]:
  truth = image.labels > 0
  seen = truth[image.valid]
  one_class = not seen.any() or seen.all()
  return {
    'name': image.name,
    'roc_auc': None
    if one_class
    else roc_lib.roc_curve(probability, truth, image.valid).auc,
    'f1': matching.f1(counts)[0.5],
    'true_cells': counts.true_cells,
    'predicted_cells': counts.predicted_cells,
  }
