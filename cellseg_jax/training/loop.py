"""The training run: from a config and a folder to a trained model."""

from collections.abc import Iterator
import functools
import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from cellseg_jax import serialization
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.load import load, Splits
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.evaluation.assess import scalars
from cellseg_jax.images.formats import ImageFileError
from cellseg_jax.images.labels import LabelError
from cellseg_jax.inference.load import load_best, load_variables
from cellseg_jax.inference.predict import Model
from cellseg_jax.training import optimizer as optimizer_lib
from cellseg_jax.training import parallel
from cellseg_jax.training.checkpoints import CheckpointError, Checkpoints
from cellseg_jax.training.progress import MetricsLog, progress_bar
from cellseg_jax.training.resolve import resolve
from cellseg_jax.training.results import (
  evaluate_step,
  write_evaluation,
  write_results,
)
from cellseg_jax.training.step import (
  init_state,
  state_from,
  train_step,
  TrainState,
  variables_to_use,
)
from cellseg_jax.validation import validate


class TrainingError(RuntimeError):
  """The run cannot go on; its last good checkpoint is kept."""


# What faulty flags, files or labels raise; their messages are for people.
BAD_INPUT = (ConfigError, ImageFileError, LabelError, CheckpointError, OSError)


def train(config: Config, workdir: str | pathlib.Path) -> dict[str, Any]:
  """Trains a model, or goes on where an earlier call was stopped.

  Args:
    config: Everything the run depends on.
    workdir: Folder for config, checkpoints, metrics, evaluation and figures.

  Returns:
    What `evaluation.json` holds: the best model's figures.

  Raises:
    ConfigError: A field is impossible, or the folder holds another run.
    LabelError: Training images or labels are faulty.
    CheckpointError, FileNotFoundError: `training.init_from` cannot be used.
    TrainingError: The loss is no longer finite.
  """
  validate(config)
  parallel.check_batch_size(config.training.batch_size)
  workdir = pathlib.Path(workdir)
  splits = load(config.data)
  config = resolve(config, splits.train, splits.pixel_size)
  check_workdir(workdir, config)
  run = config.training
  optimizer = optimizer_lib.make_optimizer(config.optimizer, run.steps)
  state = start_state(config, optimizer)
  _describe(splits, config)
  # Only now: a run that is refused leaves no folder behind.
  workdir.mkdir(parents=True, exist_ok=True)
  if not (workdir / 'config.json').exists():
    serialization.save(config, workdir / 'config.json')

  with Checkpoints(workdir / 'checkpoints', run.best_metric) as checkpoints:
    last = checkpoints.latest_step()
    if last is not None:
      print(f'Going on from step {last} of {run.steps} in {workdir}')
    if last != run.steps:
      if last is not None:
        state = checkpoints.restore(last, state)
      _make_updates(state, optimizer, config, workdir, splits, checkpoints)
  model, step = load_best(workdir)
  evaluation = write_results(workdir, model, step, splits)
  _summarize(workdir, evaluation)
  return evaluation


def check_workdir(workdir: pathlib.Path, config: Config) -> None:
  """Refuses a folder that holds a run of another config.

  Raises:
    ConfigError: Names the fields that differ.
  """
  path = workdir / 'config.json'
  if not path.exists():
    return
  before = serialization.flat(serialization.load(path))
  differing = [
    f'config.{field} (there {before[field]!r}, now {value!r})'
    for field, value in serialization.flat(config).items()
    if value != before[field]
  ]
  if differing:
    raise ConfigError(
      f'{workdir} holds a run that differs in {", ".join(differing)}; choose '
      'another --workdir, or the same values to go on with that run'
    )


def steps_per_call(config: Config) -> int:
  """Returns how many steps to compile into one call.

  The most that the config allows (by default 1 on CPUs, 20 elsewhere) of which
  every interval of the run is a multiple.
  """
  run = config.training
  most = run.steps_per_call
  if most == 0:
    most = 1 if jax.default_backend() == 'cpu' else 20
  common = math.gcd(
    run.steps, run.log_every, run.evaluate_every, run.checkpoint_every
  )
  return max(n for n in range(1, most + 1) if common % n == 0)


class _Stretch(NamedTuple):
  """The updates between two looks at a run."""

  step: int
  state: TrainState
  loss: float
  images_per_second: float


def _make_updates(
  start: TrainState,
  optimizer: optax.GradientTransformation,
  config: Config,
  workdir: pathlib.Path,
  splits: Splits,
  checkpoints: Checkpoints,
) -> None:
  """Makes the updates that are left; logs, evaluates and saves on the way."""
  run = config.training
  schedule = optimizer_lib.learning_rate_schedule(config.optimizer, run.steps)
  first = int(start.step)
  log = MetricsLog(workdir / 'metrics.jsonl', first)
  with progress_bar(first, run.steps) as bar:
    bar.set_postfix_str('compiling')
    for step, state, loss, speed in _stretches(
      start, optimizer, config, splits
    ):
      if not math.isfinite(loss):
        raise TrainingError(_not_finite(loss, step, checkpoints.latest_step()))
      rate = float(schedule(step - 1))
      log.write(step, loss=loss, learning_rate=rate, images_per_second=speed)
      bar.set_postfix_str(f'loss {loss:.4f}, {speed:.1f} images/s')
      bar.update(step - bar.n)
      if step % run.evaluate_every == 0 or step == run.steps:
        evaluation = evaluate_step(_model(state, config), step, splits)
        values = {
          split: scalars(evaluation[split])
          for split in ('validation', 'training')
        }
        log.write(step, **values)
        bar.write(_line(step, values))
        metrics = {**values['validation'], **evaluation['settings']}
        if checkpoints.is_best(metrics):
          write_evaluation(workdir / 'evaluation.json', evaluation)
        checkpoints.save(state, metrics)
      elif step % run.checkpoint_every == 0:
        checkpoints.save(state)


def _stretches(
  state: TrainState,
  optimizer: optax.GradientTransformation,
  config: Config,
  splits: Splits,
) -> Iterator[_Stretch]:
  """Makes updates; yields whenever one is to be logged, evaluated or saved."""
  run = config.training
  call = steps_per_call(config)
  advance = parallel.parallel_steps(
    functools.partial(
      train_step,
      config=config,
      optimizer=optimizer,
      batch_size=parallel.check_batch_size(run.batch_size),
    ),
    call,
  )
  first = int(state.step)
  state = parallel.replicate(state)
  pool = parallel.replicate(build_pool(splits.train, config))
  intervals = (run.log_every, run.evaluate_every, run.checkpoint_every)
  losses = []
  start = time.monotonic()
  for step in range(first + call, run.steps + 1, call):
    state, loss = advance(state, pool)
    losses.append(loss)
    if step == run.steps or any(step % every == 0 for every in intervals):
      mean = float(np.mean(jax.device_get(losses)))
      images = len(losses) * call * run.batch_size
      yield _Stretch(step, state, mean, images / (time.monotonic() - start))
      losses = []
      start = time.monotonic()


def start_state(
  config: Config, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first update: drawn, or of another run.

  Raises:
    CheckpointError: The other run's network differs in shape.
    FileNotFoundError: There is no such run.
  """
  folder = config.training.init_from
  if not folder:
    return init_state(config, optimizer)
  return state_from(load_variables(folder, config), config, optimizer)


def _model(state: TrainState, config: Config) -> Model:
  """Returns the model of a training state, on one device."""
  variables = jax.device_put(
    variables_to_use(state),
    jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
  )
  return Model(variables, {}, config)


def _line(step: int, values: dict[str, dict[str, float]]) -> str:
  parts = (
    f'{split} AUC {v["roc_auc"]:.4f}, F1 {v["f1"]:.3f}'
    for split, v in values.items()
  )
  return f'step {step}: {"; ".join(parts)}'


def _not_finite(loss: float, step: int, last: int | None) -> str:
  kept = f'the checkpoint of step {last} is kept' if last else 'none was saved'
  return (
    f'the loss is {loss} at step {step}; {kept}. Lower '
    'config.optimizer.learning_rate, or set config.optimizer.clip_norm to 1'
  )


def _describe(splits: Splits, config: Config) -> None:
  """Prints what is trained on, and what is odd about it."""
  for warning in splits.warnings:
    print(f'Warning: {warning}')
  cells = sum(len(np.unique(im.labels[im.labels > 0])) for im in splits.train)
  print(
    f'Training on {len(splits.train)} images with {cells} cells; choosing on '
    f'{splits.validation_source} ({len(splits.validation)} images); '
    f'images are seen at {config.data.resample:g} of their size',
    flush=True,
  )


def _summarize(workdir: pathlib.Path, evaluation: dict[str, Any]) -> None:
  """Prints what was reached, and where to look."""
  validation = evaluation['validation']
  settings = ', '.join(f'{k} {v:g}' for k, v in evaluation['settings'].items())
  print(
    f'Best at step {evaluation["step"]}, on {evaluation["validation_source"]}: '
    f'ROC AUC {validation["roc_auc"]:.4f}, '
    f'TPR {validation["tpr_at_fpr"]["0.05"]:.3f} at FPR 0.05, '
    f'F1 at IoU 0.5 {validation["f1"]["0.5"]:.3f} '
    f'({settings})\n'
    f'Pictures: {workdir / "figures"}\n'
    f'Figures of merit: {workdir / "evaluation.json"}\n'
    f'Segment more images: cellseg segment --model {workdir} --out OUT PATH...',
    flush=True,
  )
