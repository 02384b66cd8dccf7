"""The training run: from a config and a folder to a trained model."""

from collections.abc import Iterator
import contextlib
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
from cellseg_jax.datasets.survey import survey
from cellseg_jax.images.formats import ImageFileError
from cellseg_jax.images.inside import OutsideError
from cellseg_jax.images.labels import LabelError
from cellseg_jax.inference.load import load_best, load_variables
from cellseg_jax.inference.predict import Model
from cellseg_jax.training import optimizer as optimizer_lib
from cellseg_jax.training import parallel
from cellseg_jax.training.checkpoints import CheckpointError
from cellseg_jax.training.examine import examine
from cellseg_jax.training.feed import Feed, make_feed
from cellseg_jax.training.interrupts import Interrupted, Interrupts
from cellseg_jax.training.lock import LockedError
from cellseg_jax.training.provenance import ProvenanceError
from cellseg_jax.training.record import NoRecord, Record, Report
from cellseg_jax.training.resolve import resolve
from cellseg_jax.training.results import (
  evaluate_step,
  Evaluated,
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


# What faulty flags, files, labels or folders raise; their messages are for
# people.
BAD_INPUT = (
  ConfigError,
  ImageFileError,
  LabelError,
  CheckpointError,
  LockedError,
  OutsideError,
  ProvenanceError,
  OSError,
)


def train(
  config: Config,
  workdir: str | pathlib.Path,
  report: Report | None = None,
) -> dict[str, Any]:
  """Trains a model, or goes on where an earlier call was stopped.

  Args:
    config: Everything the run depends on.
    workdir: Folder for config, checkpoints, metrics, evaluation and figures.
    report: Called with the folder and each evaluated model, at the end with
      the best one.

  Returns:
    What `evaluation.json` holds: the best model's figures.

  Raises:
    ConfigError: A field is impossible, or the folder holds another run.
    LabelError: Training images or labels are faulty.
    CheckpointError, FileNotFoundError: `training.init_from` cannot be used.
    TrainingError: Too many losses or gradients in a row were not finite.
    Interrupted: A signal asked to end; the state is saved.
    LockedError: Another process trains in the folder.
    ProvenanceError: The folder holds a run on other files.
  """
  workdir = pathlib.Path(workdir)
  with parallel.unanimous():
    validate(config)
    parallel.check_batch_size(config.training.batch_size)
    parallel.check_deterministic(config.training.deterministic)
    splits = load(config.data)
    found = survey(splits.train)
    config = resolve(config, found.areas, splits.pixel_size)
  parallel.check_same({**serialization.flat(config), 'images': splits.digest})
  run = config.training
  optimizer = optimizer_lib.make_optimizer(config.optimizer, run.steps)
  first = parallel.is_first()
  with contextlib.ExitStack() as stack:
    with parallel.unanimous():
      state = start_state(config, optimizer)
      record = stack.enter_context(
        (Record if first else NoRecord)(workdir, config, splits.files, report)
      )
      record.say(_description(splits, config, len(found.areas)))
      state = record.last_state(state)
    # The folder is the first process's alone to read.
    state = parallel.from_first(state)
    if int(state.step) < run.steps:
      feed = make_feed(splits, config, found, record.say)
      record.begin(state)
      _make_updates(state, optimizer, config, splits, feed, record)
    if not first:
      return {}
    return _finish(workdir, splits, record)


def _finish(
  workdir: pathlib.Path, splits: Splits, record: Record
) -> dict[str, Any]:
  """Evaluates and draws the best model; returns its evaluation."""
  record.wait()
  model, step = load_best(workdir)
  evaluation = write_results(workdir, model, step, splits)
  record.show(Evaluated(model, evaluation, splits))
  record.say(_summary(workdir, evaluation))
  return evaluation


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
  loss: float | None  # Mean of the finite ones, if any.
  images_per_second: float


def _make_updates(
  start: TrainState,
  optimizer: optax.GradientTransformation,
  config: Config,
  splits: Splits,
  feed: Feed,
  record: Record,
) -> None:
  """Makes the updates that are left; records, evaluates and saves on the way.

  Raises:
    TrainingError: Too many updates in a row were skipped.
    Interrupted: A signal asked to end.
  """
  run = config.training
  with Interrupts(parallel.largest_of_all()) as interrupts:
    for step, state, loss, speed in _stretches(
      start, optimizer, config, feed, interrupts
    ):
      record.updates(state, loss, speed)
      if int(state.skipped_in_a_row) > run.most_skipped:
        record.save(state)
        raise TrainingError(_not_finite(state, splits, feed, config))
      asked = interrupts.agreed()
      # Also when asked to end: else the run that goes on would lack it.
      if step % run.evaluate_every == 0 or step == run.steps:
        model = _model(state, config)
        evaluation = evaluate_step(model, step, splits)
        record.evaluated(state, Evaluated(model, evaluation, splits))
      elif asked or step % run.checkpoint_every == 0:
        record.save(state)
      if asked:
        raise Interrupted(
          asked,
          f'interrupted and saved at step {step} of {run.steps}; the same '
          'command goes on from there',
        )


def _stretches(
  state: TrainState,
  optimizer: optax.GradientTransformation,
  config: Config,
  feed: Feed,
  interrupts: Interrupts,
) -> Iterator[_Stretch]:
  """Makes updates; yields whenever one is to be logged, evaluated or saved.

  Also when the run is asked to end.
  """
  run = config.training
  first = int(state.step)
  call = math.gcd(steps_per_call(config), first)
  advance = parallel.parallel_steps(
    functools.partial(
      train_step,
      config=config,
      optimizer=optimizer,
      batch_size=parallel.check_batch_size(run.batch_size),
    ),
    call,
    feed.streamed,
  )
  state = parallel.replicate(state)
  intervals = (run.log_every, run.evaluate_every, run.checkpoint_every)
  losses = []
  start = time.monotonic()
  steps = range(first + call, run.steps + 1, call)
  # The steps come first: they end.
  for step, pool in zip(steps, feed.calls(first, call), strict=False):
    state, loss = advance(state, pool)
    losses.append(loss)
    if (
      step == run.steps
      or interrupts.asked
      or any(step % every == 0 for every in intervals)
    ):
      made = np.concatenate(jax.device_get(losses))
      finite = made[np.isfinite(made)]
      mean = float(finite.mean()) if finite.size else None
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


def _not_finite(
  state: TrainState, splits: Splits, feed: Feed, config: Config
) -> str:
  """Says which samples of the last update were not finite, and what to do."""
  step, count = int(state.step), int(state.skipped_in_a_row)
  state = jax.device_get(state)
  found = examine(state, feed.at(step - 1), config, step)
  guilty = [
    f'{number} (of {splits.train[source].name})'
    for number, source in enumerate(found.batch.sources)
    if not found.alone[number].finite
  ]
  where = f'in sample {", ".join(guilty)}' if guilty else 'in no sample alone'
  return (
    f'the loss or the gradient of {count} updates in a row was not finite, at '
    f'step {step} {where}; the state before them is saved. See what it was '
    f'made from with --replay_step={step}; lower '
    'config.optimizer.learning_rate, or set config.optimizer.clip_norm to 1'
  )


def _description(splits: Splits, config: Config, cells: int) -> str:
  """Says what is trained on, and what is odd about it."""
  warnings = [f'Warning: {warning}' for warning in splits.warnings]
  return '\n'.join(
    [
      *warnings,
      f'Training on {len(splits.train)} images with {cells} cells; choosing on '
      f'{splits.validation_source} ({len(splits.validation)} images); '
      f'images are seen at {config.data.resample:g} of their size',
    ]
  )


def _summary(workdir: pathlib.Path, evaluation: dict[str, Any]) -> str:
  """Says what was reached, and where to look."""
  validation = evaluation['validation']
  settings = ', '.join(f'{k} {v:g}' for k, v in evaluation['settings'].items())
  return (
    f'Best at step {evaluation["step"]}, on {evaluation["validation_source"]}: '
    f'ROC AUC {validation["roc_auc"]:.4f}, '
    f'TPR {validation["tpr_at_fpr"]["0.05"]:.3f} at FPR 0.05, '
    f'F1 at IoU 0.5 {validation["f1"]["0.5"]:.3f} '
    f'({settings})\n'
    f'Pictures: {workdir / "figures"}; report: {workdir / "report"}\n'
    f'Figures of merit: {workdir / "evaluation.json"}\n'
    f'Segment more images: cellseg segment --model {workdir} --out OUT PATH...'
  )
