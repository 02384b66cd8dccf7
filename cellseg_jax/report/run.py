"""The report on a training run: `DIR/report/index.html`."""

import collections
import datetime
import pathlib
import time
from typing import Any

import numpy as np

from cellseg_jax import environment, serialization
from cellseg_jax.config import Config
from cellseg_jax.datasets.load import load, Splits
from cellseg_jax.datasets.survey import survey
from cellseg_jax.evaluation import case_study
from cellseg_jax.evaluation.evaluate import roc_from
from cellseg_jax.evaluation.look import chosen, look
from cellseg_jax.inference.load import load_best
from cellseg_jax.inside import inside
from cellseg_jax.report import charts, measures, shown
from cellseg_jax.report.page import safe, write_page
from cellseg_jax.report.repeat import command
from cellseg_jax.training.metrics_log import read_metrics
from cellseg_jax.training.results import (
  evaluate_step,
  Evaluated,
  read_evaluation,
)

PAGE = pathlib.Path('report', 'index.html')

# Maximum numbers of thumbnails of training images, and of validation images, in
# the page, which must stay small.
MOST_THUMBNAILS = 12
MOST_SHOWN = 6


def report_run(workdir: pathlib.Path) -> pathlib.Path:
  """Writes the report on the best model of a run.

  Args:
    workdir: The folder that training wrote; the labelled images must be where
      they were.

  Returns:
    Path of the page.

  Raises:
    FileNotFoundError: There is no trained model.
    ConfigError: The config is not one of this version, or its images are gone.
    LabelError: The images cannot be used.
    CheckpointError: The model cannot be read.
    OutsideError: `report` is a link that leads out of the folder.
  """
  model, step = load_best(workdir)
  splits = load(model.config.data)
  evaluation = read_evaluation(workdir / 'evaluation.json')
  if evaluation.get('step') != step:
    evaluation = evaluate_step(model, step, splits)
  return write_report(workdir, Evaluated(model, evaluation, splits))


def write_report(workdir: pathlib.Path, evaluated: Evaluated) -> pathlib.Path:
  """Writes the report on a run in its current state.

  Args:
    workdir: The folder of the run, with its `metrics.jsonl`.
    evaluated: A model of the run, such as its newest or best, and its
      evaluation.

  Returns:
    Path of the page.

  Raises:
    OutsideError: `report` is a link that leads out of the folder.
    OSError: The page cannot be written.
  """
  path = inside(workdir, PAGE)
  config = evaluated.model.config
  metrics = read_metrics(workdir / 'metrics.jsonl')
  write_page(
    path,
    'run.html',
    title=workdir.resolve().name,
    made=f'{datetime.datetime.now():%d %B %Y, %H:%M}',
    step=evaluated.evaluation['step'],
    steps=config.training.steps,
    metric=config.training.best_metric,
    finished=bool(metrics) and metrics[-1]['step'] == config.training.steps,
    trained_on=_trained_on(evaluated.splits),
    evaluation=evaluated.evaluation,
    case_study=case_study,
    charts=_charts(metrics, evaluated.evaluation),
    validation=_validation(evaluated),
    speed=_speed(metrics, evaluated),
    run=_settings(config, workdir),
  )
  return path


def _trained_on(splits: Splits) -> dict[str, Any]:
  """Returns what the page shows of the training images."""
  sizes = measures.diameters(survey(splits.train).areas)
  return {
    'images': len(splits.train),
    'cells': sizes.size,
    'quartiles': np.percentile(sizes, (25, 50, 75)).tolist(),
    'faults': splits.warnings,
    'thumbnails': [
      shown.thumbnail(image) for image in splits.train[:MOST_THUMBNAILS]
    ],
    'sizes': safe(charts.size_histogram(sizes)),
  }


def _charts(
  metrics: list[dict[str, Any]], evaluation: dict[str, Any]
) -> dict[str, Any]:
  """Returns the charts of the run's metrics and its evaluation."""
  curves = {
    split: roc_from(evaluation[split]) for split in ('training', 'validation')
  }
  threshold = evaluation['settings']['threshold']
  fpr, tpr = charts.operating_point(curves['validation'], threshold)
  study = {'test': case_study.TEST, 'training': case_study.TRAINING}
  return {
    'loss': safe(charts.loss(metrics)),
    'learning_rate': safe(charts.learning_rate(metrics)),
    'auc': safe(charts.score(metrics, 'roc_auc', 'ROC AUC')),
    'mean_f1': safe(charts.score(metrics, 'mean_f1', 'F1, IoU 0.5 to 0.9')),
    'roc': safe(charts.roc(curves, threshold, study)),
    'f1': safe(charts.f1_over_iou(evaluation)),
    'operating_point': {'threshold': threshold, 'fpr': fpr, 'tpr': tpr},
  }


def _validation(evaluated: Evaluated) -> dict[str, Any]:
  """Returns what the page shows of the validation images."""
  looks = evaluated.looks
  tables = measures.tables_of(looks)
  images = [shown.image(*pair) for pair in zip(looks, tables, strict=True)]
  calibrated, sizes = measures.calibration(looks), measures.sizes(tables)
  kinds: collections.Counter[str] = collections.Counter()
  for image in images:
    kinds.update(image['kinds'])
  return {
    'source': evaluated.splits.validation_source,
    'all': len(evaluated.splits.validation),
    'seen': len(looks),
    'kinds': kinds,
    'true': sum(image['true'] for image in images),
    'images': sorted(images, key=lambda image: image['f1'])[:MOST_SHOWN],
    'worst': [
      shown.zoom(looks[cell.look], cell)
      for cell in measures.worst_cells(looks, tables)
    ],
    'calibration_error': calibrated.error,
    'calibration': safe(charts.reliability(calibrated)),
    'share_of_pixels': safe(charts.share_of_pixels(calibrated)),
    'sizes': safe(charts.sizes(sizes)),
    'size_pairs': safe(charts.size_pairs(sizes)),
    'min_area': evaluated.model.config.decoding.min_area,
    'method': evaluated.model.config.decoding.method,
  }


def _speed(
  metrics: list[dict[str, Any]], evaluated: Evaluated
) -> dict[str, Any]:
  """Returns speed and memory of training, and the time to segment an image."""
  config = evaluated.model.config
  speeds = [
    line['images_per_second'] for line in metrics if 'images_per_second' in line
  ]
  peaks = [line['peak_memory'] for line in metrics if 'peak_memory' in line]
  images = chosen(evaluated.splits.validation)
  assert evaluated.looks  # Has compiled the program, which is not to be timed.
  start = time.monotonic()
  look(evaluated.model, images[0], evaluated.evaluation['settings'])
  seconds = time.monotonic() - start
  crops = float(np.median(speeds)) if speeds else None
  return {
    'crops': crops,
    'step': config.training.batch_size / crops if crops else None,
    'batch_size': config.training.batch_size,
    'crop_size': config.training.crop_size,
    'segment': seconds,
    'size': images[0].labels.shape,
    'peak': {
      place: max(peak.get(place, 0) for peak in peaks) if peaks else 0
      for place in ('host', 'device')
    },
  }


def _settings(config: Config, workdir: pathlib.Path) -> dict[str, Any]:
  """Returns configuration, versions, and the command to repeat the run."""
  return {
    'command': command(config, workdir),
    'seed': config.training.seed,
    'config': serialization.flat(config),
    'changed': serialization.changed(config, Config()).keys(),
    'versions': environment.versions(),
    'devices': environment.devices(),
  }
