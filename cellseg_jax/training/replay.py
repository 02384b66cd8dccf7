"""Recomputes one update of a run and shows what it was made from.

This is the implementation of the training command's `--replay_step`.
"""

import functools
import pathlib

import jax
import numpy as np

from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.load import load
from cellseg_jax.datasets.survey import survey
from cellseg_jax.evaluation import figures
from cellseg_jax.inside import inside
from cellseg_jax.training import optimizer as optimizer_lib
from cellseg_jax.training import provenance
from cellseg_jax.training.checkpoints import Checkpoints
from cellseg_jax.training.examine import examine, Figures
from cellseg_jax.training.feed import Feed, make_feed
from cellseg_jax.training.loop import start_state
from cellseg_jax.training.resolve import resolve
from cellseg_jax.training.step import train_step, TrainState
from cellseg_jax.validation import validate


def replay(config: Config, workdir: str | pathlib.Path, step: int) -> None:
  """Prints losses and gradient norms of an update, and draws its crops.

  Starts from the last checkpoint before the update, or else from the initial
  state, and repeats the updates in between on one device. In the run's folder,
  only `figures/replay_STEP.png` is written.

  Args:
    config: The run's config.
    workdir: Folder of the run.
    step: The update, counted from 1.

  Raises:
    ConfigError: There is no such update, or the folder holds another run.
    ProvenanceError: The folder holds a run on other files.
    CheckpointError: A checkpoint is damaged.
    LabelError: Training images or labels are faulty.
    OutsideError: `figures` is a symbolic link that leads out of the folder.
    OSError: A file cannot be read or written.
  """
  validate(config)
  workdir = pathlib.Path(workdir)
  if not 1 <= step <= config.training.steps:
    raise ConfigError(
      f'--replay_step must be 1 to {config.training.steps}, found {step}'
    )
  splits = load(config.data)
  known = survey(splits.train)
  config = resolve(config, known.areas, splits.pixel_size)
  provenance.check_config(workdir, config)
  provenance.check_files(workdir, splits.files)
  feed = make_feed(splits, config, known, print)
  state = _state_before(step, workdir, config, feed)
  found = examine(state, feed.at(step - 1), config, step)
  print(f'step {step}: {_line(found.whole)}')
  for number, source in enumerate(found.batch.sources):
    name = splits.train[source].name
    print(f'  sample {number}, of {name}, alone: {_line(found.alone[number])}')
  print('Gradient norm by part:')
  for part, norm in found.whole.norms.items():
    print(f'  {part}: {norm:.4g}')
  path = inside(workdir, pathlib.Path('figures', f'replay_{step}.png'))
  path.parent.mkdir(parents=True, exist_ok=True)
  figures.crops(path, *map(np.asarray, found.batch[:3]))
  print(f'Crops, targets and weights: {path}')


def _line(figures_of: Figures) -> str:
  return f'loss {figures_of.loss:.4f}, gradient norm {figures_of.norm:.4g}'


def _state_before(
  step: int, workdir: pathlib.Path, config: Config, feed: Feed
) -> TrainState:
  """Returns the state before an update, as host arrays."""
  optimizer = optimizer_lib.make_optimizer(
    config.optimizer, config.training.steps
  )
  state = start_state(config, optimizer)
  folder = workdir / 'checkpoints'
  if folder.is_dir():
    with Checkpoints(folder, config.training.best_metric) as checkpoints:
      before = [s for s in checkpoints.steps() if s < step]
      if before:
        state = checkpoints.restore(max(before), state)
  make = jax.jit(
    functools.partial(
      train_step,
      config=config,
      optimizer=optimizer,
      batch_size=config.training.batch_size,
    ),
    donate_argnums=0,
  )
  print(f'from step {int(state.step)}', flush=True)
  for made in range(int(state.step), step - 1):
    state, _ = make(state, feed.at(made))
  return jax.tree.map(np.asarray, state)
