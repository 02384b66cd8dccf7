"""Cross-validation: scores every image under a model not trained on it."""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.atomic import replace_json
from cellseg_jax.config import Config
from cellseg_jax.evaluation import matching, scores
from cellseg_jax.evaluation.roc import roc_curve
from cellseg_jax.images import formats
from cellseg_jax.images.pictures import overlay
from cellseg_jax.studies import figures, tables
from cellseg_jax.studies.held_out import HeldOut, leave_one_out

RESAMPLES = 2000
LEVEL = 0.95
# Metrics listed in the CSV file, besides F1 and the error counts.
LISTED = ('pq', 'seg', 'aji', 'boundary_f1', 'dice')
ERRORS = ('merged', 'split', 'missed', 'extra')


def cross_validate(config: Config, out: pathlib.Path) -> dict[str, Any]:
  """Runs leave-one-out cross-validation and scores every held-out image.

  Args:
    config: The config of the runs.
    out: Folder for the runs, for `cross_validation.json`, `.csv` and `.png`,
      and for `held_out/` with the predicted label image and overlay of every
      image.

  Returns:
    The contents of the JSON file: `images`, the metrics of every image by name,
    as `scores.metrics` returns them plus `mean_f1` and `roc_auc`; `pooled`, the
    metrics of all cells pooled; `interval`, lower and upper bootstrap bound of
    each pooled metric; `level`, the confidence level of these; `steps`, the
    length of the runs.

  Raises:
    ConfigError: There are fewer than three images with cells, they have changed
      since the first run, or a field is invalid.
    LabelError: Training images or labels are faulty.
    TrainingError: Too many updates in a row were skipped.
    Interrupted: A signal asked to stop; the current runs are saved.
  """
  held = leave_one_out(config, out)
  counts = [count(one) for one in held]
  report = {
    'images': {
      one.image.name: figures_of(own) | {'roc_auc': _auc(one)}
      for one, own in zip(held, counts, strict=True)
    },
    'pooled': figures_of(scores.pool(counts)),
    'interval': bootstrap(counts),
    'level': LEVEL,
    'steps': config.training.steps,
  }
  folder = out / 'held_out'
  folder.mkdir(exist_ok=True)
  for one in held:
    name = one.image.name
    formats.write_labels(folder / f'{name}.tif', one.predicted)
    picture = overlay(one.image.image, one.predicted)
    formats.write_picture(folder / f'{name}.png', picture)
  replace_json(out / 'cross_validation.json', report)
  tables.write_csv(out / 'cross_validation.csv', rows(report))
  figures.cross_validation(out / 'cross_validation.png', report)
  return report


def count(held: HeldOut) -> scores.Counts:
  """Compares the predicted cells of a held-out image with its labels.

  Only valid pixels count, see `matching.scored`.

  Args:
    held: The image with its prediction.
  """
  image = held.image
  return scores.count(
    *matching.scored(image.labels, held.predicted, image.valid)
  )


def figures_of(counts: scores.Counts) -> dict[str, Any]:
  """Returns `scores.metrics` and `mean_f1`, the mean F1 over IoU 0.5 to 0.9."""
  return {'mean_f1': matching.mean_f1(counts.match)} | scores.metrics(counts)


def bootstrap(
  counts: Sequence[scores.Counts], seed: int = 0
) -> dict[str, tuple[float, float]]:
  """Computes bootstrap intervals of the pooled metrics.

  These are percentile intervals (Efron 1979), which tend to be too narrow for
  few images. Images are resampled rather than cells, since the cells of one
  image are not independent.

  Args:
    counts: The counts of each image.
    seed: Seed of the resampling.

  Returns:
    Lower and upper bound by name of the metric; metrics at one IoU are named
    like `f1.0.5`.
  """
  rng = np.random.default_rng(seed)
  drawn = []
  for places in rng.integers(len(counts), size=(RESAMPLES, len(counts))):
    drawn.append(flat(figures_of(scores.pool([counts[i] for i in places]))))
  tail = 50 * (1 - LEVEL)
  bounds = {}
  for name in drawn[0]:
    low, high = np.percentile([one[name] for one in drawn], [tail, 100 - tail])
    bounds[name] = (float(low), float(high))
  return bounds


def flat(metrics: dict[str, Any]) -> dict[str, float]:
  """Flattens metrics that are given per IoU to keys `NAME.IOU`."""
  found = {}
  for name, value in metrics.items():
    if isinstance(value, dict):
      found.update({f'{name}.{iou}': one for iou, one in value.items()})
    else:
      found[name] = value
  return found


def rows(report: dict[str, Any]) -> list[dict[str, Any]]:
  """Returns the rows of the CSV file.

  Args:
    report: The report, as `cross_validate` returns it.

  Returns:
    One row per image, then one of the pooled metrics, and one each of their
    lower and upper bounds.
  """
  listed = ['f1.0.5', 'f1.0.7', 'f1.0.9', 'mean_f1', *LISTED]
  listed += ['true', 'predicted', *ERRORS]
  named = [(name, flat(own)) for name, own in report['images'].items()]
  named.append(('all', flat(report['pooled'])))
  for i, bound in enumerate(('all, lower bound', 'all, upper bound')):
    bounds = {name: both[i] for name, both in report['interval'].items()}
    named.append((bound, bounds))
  return [
    {'image': name, **{metric: own[metric] for metric in listed}}
    for name, own in named
  ]


def summary(report: dict[str, Any]) -> str:
  """Formats the scores of each image and of all images as text."""
  lines = [
    f'{name}: F1 at IoU 0.5 {own["f1"]["0.5"]:.3f}, mean F1 '
    f'{own["mean_f1"]:.3f}, '
    + ', '.join(f'{kind} {own[kind]}' for kind in ERRORS)
    for name, own in report['images'].items()
  ]
  low, high = report['interval']['mean_f1']
  lines.append(
    f'all {len(report["images"])} images: F1 at IoU 0.5 '
    f'{report["pooled"]["f1"]["0.5"]:.3f}, mean F1 '
    f'{report["pooled"]["mean_f1"]:.3f} ({low:.3f} to {high:.3f}, '
    f'{100 * report["level"]:.0f} % bootstrap over images)'
  )
  return '\n'.join(lines)


def _auc(held: HeldOut) -> float | None:
  """Returns the pixelwise ROC AUC; None if valid pixels are all of one class.

  Args:
    held: The image with its predicted maps.
  """
  truth, valid = held.image.labels > 0, held.image.valid
  if truth[valid].all() or not truth[valid].any():
    return None
  return roc_curve(held.maps['foreground'], truth, valid).auc
