"""Metrics of a model on labelled images, from its maps and decoded cells."""

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
from cellseg_jax.inference.decode import Maps, Settings


def evaluate(
  maps: Sequence[Maps],
  images: Sequence[LabelledImage],
  decoding: DecodingConfig,
  settings: Settings,
) -> dict[str, Any]:
  """Evaluates predicted maps, and the label images decoded from them.

  Only valid pixels count. Pixels and cells are pooled over the images.

  Args:
    maps: The maps of every image by name, float (H, W), 0 to 1.
    images: The labelled images, in the same order.
    decoding: How to decode; the settings in it are not used.
    settings: The decoder's settings by name.

  Returns:
    A dictionary of plain values, ready for JSON:
      roc_auc: Area under the pixelwise ROC.
      tpr_at_fpr: True positive rate at the false positive rates '0.01',
        '0.02', '0.05' and '0.1'.
      roc_curve: The lists `fpr`, `tpr` and `thresholds`, up to 500 points, from
        which `roc_from` restores a curve.
      f1: F1 of the cells at the IoU thresholds '0.5', '0.55', ... '0.95'.
      mean_f1: Mean F1 over the IoU thresholds 0.5 to 0.9.
      dice: Dice coefficient of the decoded cells' pixels.
      settings: The given settings.
      images: For each image its `name`, `roc_auc` (None if all its pixels
        are of one class), `f1` at IoU 0.5, `true_cells` and
        `predicted_cells`.

  Raises:
    ValueError: The numbers or shapes of maps and images differ, a map holds
      NaN, or all pixels of all images are of one class.
  """
  check_pairs(maps, images)
  counts = [
    match_decoded(one, image, decoding, settings)
    for one, image in zip(maps, images, strict=True)
  ]
  probabilities = [np.asarray(one['foreground']) for one in maps]
  total = functools.reduce(operator.add, counts)
  return {
    **_roc_of(probabilities, images),
    'f1': {f'{iou:g}': value for iou, value in matching.f1(total).items()},
    'mean_f1': matching.mean_f1(total),
    'dice': matching.dice(total),
    'settings': dict(settings),
    'images': [
      _of_image(*one) for one in zip(probabilities, images, counts, strict=True)
    ],
  }


def roc_from(evaluation: dict[str, Any]) -> roc_lib.Roc:
  """Returns the thinned ROC curve that a result of `evaluate` holds."""
  curve = evaluation['roc_curve']
  return roc_lib.Roc(
    auc=evaluation['roc_auc'],
    **{name: np.array(values) for name, values in curve.items()},
  )


def check_pairs(maps: Sequence[Maps], images: Sequence[LabelledImage]) -> None:
  """Refuses maps that do not fit the images.

  Raises:
    ValueError: The numbers or shapes of maps and images differ, or there is no
      image.
  """
  if len(maps) != len(images) or not images:
    raise ValueError(
      'evaluation needs the maps of each of at least one image, '
      f'found {len(maps)} sets of maps and {len(images)} images'
    )
  for one, image in zip(maps, images, strict=True):
    for name, values in one.items():
      if values.shape != image.labels.shape:
        raise ValueError(
          f'{image.name}: map {name} is {values.shape}, labels are '
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


def match_decoded(
  maps: Maps,
  image: LabelledImage,
  decoding: DecodingConfig,
  settings: Settings,
) -> matching.MatchCounts:
  """Decodes the maps of one image and matches the cells with its labels."""
  predicted = decode.decode(maps, decoding, settings)
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
