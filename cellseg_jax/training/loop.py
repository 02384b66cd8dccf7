"""Runs a training from a config and a folder to an evaluated model.

`train` is the entry point. `together` reuses its parts (`prepare`, `enter`,
`go_on`, `finish`) to train several models as one program.
"""

import contextlib
import pathlib
from typing import Any

import optax

from cellseg_jax import serialization
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.load import load
from cellseg_jax.datasets.survey import survey
from cellseg_jax.images.formats import ImageFileError
from cellseg_jax.images.labels import LabelError
from cellseg_jax.inference.load import load_best, load_variables
from cellseg_jax.inside import OutsideError
from cellseg_jax.training import parallel
from cellseg_jax.training.checkpoints import CheckpointError
from cellseg_jax.training.feed import make_feed
from cellseg_jax.training.lock import LockedError
from cellseg_jax.training.provenance import ProvenanceError
from cellseg_jax.training.record import NoRecord, Record, Report
from cellseg_jax.training.resolve import resolve
from cellseg_jax.training.results import Evaluated, write_results
from cellseg_jax.training.step import init_state, state_from, TrainState
from cellseg_jax.training.updates import (
  make_optimizer,
  make_updates,
  Run,
  update_of,
)
from cellseg_jax.validation import validate

# Errors caused by faulty flags, files, labels or folders. Their messages are
# shown to the user without a traceback.
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
  """Trains a model, or resumes a training that was stopped.

  Args:
    config: Everything the run depends on.
    workdir: Folder for config, checkpoints, metrics, evaluation and figures.
    report: Called with the folder and each evaluated model; at the end, with
      the best model.

  Returns:
    The contents of `evaluation.json`: the evaluation of the best model. With
    several processes, only the first returns it; the others return {}.

  Raises:
    ConfigError: A field is invalid, or the folder holds another run.
    LabelError: Training images or labels are faulty.
    CheckpointError: No checkpoint of the run is intact, a checkpoint cannot be
      saved, or the run named by `training.init_from` cannot be used.
    FileNotFoundError: There is no run at `training.init_from`.
    TrainingError: Too many losses or gradients in a row were not finite.
    Interrupted: A signal asked the run to stop; its state is saved.
    LockedError: Another process is using the folder.
    ProvenanceError: The folder holds a run on other files.
    OutsideError: A folder in the run's folder is a symbolic link that leads out
      of it.
  """
  with parallel.unanimous(BAD_INPUT):
    run = prepare(config, pathlib.Path(workdir), report)
  parallel.check_same(
    {**serialization.flat(run.config), 'images': run.splits.digest}
  )
  with contextlib.ExitStack() as stack:
    with parallel.unanimous(BAD_INPUT):
      state = enter(run, stack)
    # Only the first process reads the folder.
    state = parallel.from_first(state)
    go_on(run, state)
    return finish(run) if parallel.is_first() else {}


def prepare(
  config: Config,
  workdir: pathlib.Path,
  report: Report | None = None,
  name: str = '',
) -> Run:
  """Loads the images of a run and resolves its config.

  Writes nothing to the run's folder.

  Args:
    config: The config as the user gave it, unresolved.
    workdir: Folder of the run.
    report: Called with the folder and each evaluated model.
    name: Prefix of the run's messages, to tell apart runs that are trained at
      the same time; '' for none.

  Raises:
    ConfigError: A field is invalid.
    LabelError: Training images or labels are faulty.
  """
  validate(config)
  parallel.check_batch_size(config.training.batch_size)
  parallel.check_deterministic(config.training.deterministic)
  splits = load(config.data)
  found = survey(splits.train)
  config = resolve(config, found.areas, splits.pixel_size)
  kind = Record if parallel.is_first() else NoRecord
  record = kind(workdir, config, splits.files, report, name)
  return Run(workdir, config, splits, found, record)


def enter(run: Run, stack: contextlib.ExitStack) -> TrainState:
  """Opens and locks the folder of a run, and loads its last state.

  Args:
    run: The run, as `prepare` returns it.
    stack: Closes and unlocks the folder when it is left.

  Returns:
    The state of the last checkpoint, or else the initial state.

  Raises:
    ConfigError: The folder holds another run.
    CheckpointError: No checkpoint of the run is intact, or the run named by
      `training.init_from` cannot be used.
    FileNotFoundError: There is no run at `training.init_from`.
    LockedError: Another process is using the folder.
    ProvenanceError: The folder holds a run on other files.
    OutsideError: A folder in the run's folder is a symbolic link that leads out
      of it.
  """
  state = start_state(run.config, make_optimizer(run.config))
  stack.enter_context(run.record)
  run.record.say(_description(run))
  return run.record.last_state(state)


def go_on(run: Run, state: TrainState) -> None:
  """Makes the remaining updates of a run.

  Args:
    run: The run, whose folder `enter` has opened.
    state: The state to continue from.

  Raises:
    ConfigError: The images cannot be streamed, or cannot be held on the
      devices.
    TrainingError: Too many updates in a row were skipped; the state is saved.
    Interrupted: A signal asked the run to stop; the state is saved.
  """
  if int(state.step) == run.config.training.steps:
    return
  feed = make_feed(run.splits, run.config, run.found, run.record.say)
  run.record.begin(state)
  update = update_of(run.config)
  make_updates([run], state, update, feed.calls, feed.streamed)


def finish(run: Run) -> dict[str, Any]:
  """Writes the evaluation, figures and report of the best model.

  Args:
    run: The run, all of whose updates are made.

  Returns:
    The contents of `evaluation.json`.
  """
  run.record.wait()
  model, step = load_best(run.workdir)
  evaluation = write_results(run.workdir, model, step, run.splits)
  run.record.show(Evaluated(model, evaluation, run.splits))
  run.record.say(_summary(run.workdir, evaluation))
  return evaluation


def start_state(
  config: Config, optimizer: optax.GradientTransformation
) -> TrainState:
  """Returns the state before the first update.

  Its variables are drawn at random, or are those of the best model of the run
  at `training.init_from`.

  Args:
    config: The resolved configuration.
    optimizer: The run's optimiser, whose state is initialised.

  Raises:
    CheckpointError: The other run's checkpoint cannot be read, or its network
      differs in shape.
    FileNotFoundError: There is no run at `training.init_from`.
  """
  folder = config.training.init_from
  if not folder:
    return init_state(config, optimizer)
  return state_from(load_variables(folder, config), config, optimizer)


def _description(run: Run) -> str:
  """Returns warnings about the data set and a line about the images used."""
  splits, cells = run.splits, len(run.found.areas)
  warnings = [f'Warning: {warning}' for warning in splits.warnings]
  return '\n'.join(
    [
      *warnings,
      f'Training on {cells} cells of {len(splits.train)} images; checking on '
      f'{splits.validation_source} ({len(splits.validation)} images). '
      f'The network sees images at {100 * run.config.data.resample:.3g} % of '
      'their size',
    ]
  )


def _summary(workdir: pathlib.Path, evaluation: dict[str, Any]) -> str:
  """Returns the best model's main scores and the paths of the results."""
  validation = evaluation['validation']
  settings = ', '.join(f'{k} {v:g}' for k, v in evaluation['settings'].items())
  return (
    f'Best at step {evaluation["step"]}, on {evaluation["validation_source"]}: '
    f'ROC AUC {validation["roc_auc"]:.4f}, '
    f'TPR {validation["tpr_at_fpr"]["0.05"]:.3f} at FPR 0.05, '
    f'F1 at IoU 0.5 {validation["f1"]["0.5"]:.3f} '
    f'({settings})\n'
    f'Look at it: {workdir / "report" / "index.html"} (opens in any browser), '
    f'pictures in {workdir / "figures"}, numbers in '
    f'{workdir / "evaluation.json"}\n'
    f'Segment a folder: cellseg segment --model {workdir} --out segmented '
    'FOLDER'
  )
