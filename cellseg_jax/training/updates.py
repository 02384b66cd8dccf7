"""The main loop of training, for one run or several at once.

It makes the updates and, at the config's intervals, logs, evaluates and saves.
`loop` and `together` call it.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
import functools
import math
import pathlib
import time
from typing import Any, NamedTuple

import jax
import numpy as np
import optax

from cellseg_jax.config import Config
from cellseg_jax.datasets.load import Splits
from cellseg_jax.datasets.survey import Survey
from cellseg_jax.inference.predict import Model
from cellseg_jax.training import optimizer as optimizer_lib
from cellseg_jax.training import parallel
from cellseg_jax.training.examine import examine
from cellseg_jax.training.feed import make_feed
from cellseg_jax.training.interrupts import Interrupted, Interrupts
from cellseg_jax.training.record import Record
from cellseg_jax.training.results import evaluate_step, Evaluated
from cellseg_jax.training.step import train_step, TrainState, variables_to_use


class TrainingError(RuntimeError):
  """Too many updates in a row were skipped; the run's state is saved."""


class Run(NamedTuple):
  """A training run.

  Attributes:
    workdir: Folder of the run.
    config: The resolved configuration.
    splits: The images of the run.
    found: Survey of the training images.
    record: Writes to the run's folder.
  """

  workdir: pathlib.Path
  config: Config
  splits: Splits
  found: Survey
  record: Record


def make_optimizer(config: Config) -> optax.GradientTransformation:
  """Returns the optimiser of a run."""
  return optimizer_lib.make_optimizer(config.optimizer, config.training.steps)


def update_of(config: Config) -> Callable[..., tuple[TrainState, jax.Array]]:
  """Returns `train_step` with config, optimiser and batch size per device set.

  Raises:
    ConfigError: The batch cannot be divided equally among the devices.
  """
  return functools.partial(
    train_step,
    config=config,
    optimizer=make_optimizer(config),
    batch_size=parallel.check_batch_size(config.training.batch_size),
  )


def steps_per_call(config: Config) -> int:
  """Returns how many steps to compile into one call.

  This is the largest number that the config allows (by default 1 on CPUs, 20
  elsewhere) and that divides the length and all intervals of the run.
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
  """The updates since the previous time that runs were logged or saved."""

  step: int
  state: TrainState
  losses: np.ndarray  # float32 (updates, runs)
  images_per_second: float  # Per run.


def make_updates(
  runs: Sequence[Run],
  start: TrainState,
  update: Callable[..., tuple[TrainState, jax.Array]],
  calls: Callable[[int, int], Iterable[Any]],
  streamed: bool = False,
) -> None:
  """Makes the remaining updates, and logs, evaluates and saves at intervals.

  Args:
    runs: One run, or several of the same length and intervals that are at the
      same step. `Record.begin` has been called on their records.
    start: The state of the run; with several, their states stacked along a new
      first axis.
    update: Function (state, pool, device, *, axis_name) -> (state, loss), as
      for `parallel.parallel_steps`; with several runs, one loss for each.
    calls: Function (first, steps) that yields the pool of each call, as
      `Feed.calls` does.
    streamed: Whether every step of every device has a pool of its own, as
      `Feed.streamed` says.

  Raises:
    TrainingError: Too many updates in a row of a run were skipped; all runs are
      saved.
    Interrupted: A signal asked to stop; all runs are saved.
  """
  config = runs[0].config.training
  with Interrupts(parallel.largest_of_all()) as interrupts:
    for step, state, losses, speed in _stretches(
      start, update, runs[0].config, calls, streamed, interrupts
    ):
      skipped, in_a_row = map(
        np.ravel, jax.device_get((state.skipped, state.skipped_in_a_row))
      )
      for run, own, count in zip(runs, losses.T, skipped, strict=True):
        run.record.updates(step, int(count), _finite_mean(own), speed)
      asked = interrupts.agreed()
      stuck = np.flatnonzero(in_a_row > config.most_skipped)
      # Also when asked to stop: a resumed run would not evaluate this step.
      evaluate = step % config.evaluate_every == 0 or step == config.steps
      for number, run in enumerate(runs):
        if evaluate and not stuck.size:
          own = _state_of(state, number)
          model = _model(own, run.config)
          evaluation = evaluate_step(model, step, run.splits)
          evaluated = Evaluated(model, evaluation, run.splits)
          run.record.evaluated(own, evaluated)
        elif stuck.size or asked or step % config.checkpoint_every == 0:
          run.record.save(_state_of(state, number))
      for number in stuck[:1]:
        own = _state_of(state, number)
        raise TrainingError(_not_finite(runs[number], own))
      if asked:
        raise Interrupted(
          asked,
          f'interrupted and saved at step {step} of {config.steps}; the same '
          'command goes on from there',
        )


def _state_of(state: TrainState, number: int) -> TrainState:
  """Returns the state of one run from a state that may be stacked."""
  return jax.tree.map(lambda x: x[number], state) if state.step.ndim else state


def _finite_mean(losses: np.ndarray) -> float | None:
  """Returns the mean of the finite losses; None if there is none."""
  finite = losses[np.isfinite(losses)]
  return float(finite.mean()) if finite.size else None


def _stretches(
  state: TrainState,
  update: Callable[..., tuple[TrainState, jax.Array]],
  config: Config,
  calls: Callable[[int, int], Iterable[Any]],
  streamed: bool,
  interrupts: Interrupts,
) -> Iterator[_Stretch]:
  """Makes updates; yields whenever one is to be logged, evaluated or saved.

  Also yields after the last update, and when the run is asked to stop.
  """
  run = config.training
  first = int(np.ravel(state.step)[0])
  call = math.gcd(steps_per_call(config), first)
  advance = parallel.parallel_steps(update, call, streamed)
  state = parallel.replicate(state)
  intervals = (run.log_every, run.evaluate_every, run.checkpoint_every)
  losses = []
  start = time.monotonic()
  steps = range(first + call, run.steps + 1, call)
  # `steps` comes first, since it is finite while `calls` may not be.
  for step, pool in zip(steps, calls(first, call), strict=False):
    state, loss = advance(state, pool)
    losses.append(loss)
    if (
      step == run.steps
      or interrupts.asked
      or any(step % every == 0 for every in intervals)
    ):
      made = np.concatenate(jax.device_get(losses))
      made = made.reshape(len(made), -1)
      images = len(made) * run.batch_size
      yield _Stretch(step, state, made, images / (time.monotonic() - start))
      losses = []
      start = time.monotonic()


def _model(state: TrainState, config: Config) -> Model:
  """Returns the model of a training state, on one device."""
  variables = jax.device_put(
    variables_to_use(state),
    jax.sharding.SingleDeviceSharding(jax.local_devices()[0]),
  )
  return Model(variables, {}, config)


def _not_finite(run: Run, state: TrainState) -> str:
  """Describes the last update's non-finite samples, and what to do."""
  step, count = int(state.step), int(state.skipped_in_a_row)
  state = jax.device_get(state)
  # A new feed, since the updates' own pool may be shared by several runs.
  feed = make_feed(run.splits, run.config, run.found, run.record.say)
  found = examine(state, feed.at(step - 1), run.config, step)
  guilty = [
    f'{number} (of {run.splits.train[source].name})'
    for number, source in enumerate(found.batch.sources)
    if not found.alone[number].finite
  ]
  where = f'in sample {", ".join(guilty)}' if guilty else 'in no sample alone'
  return (
    f'{run.workdir}: the loss or the gradient of {count} updates in a row was '
    f'not finite, at step {step} {where}; the state before them is saved. See '
    f'what it was made from with --replay_step={step}; lower '
    'config.optimizer.learning_rate, or set config.optimizer.clip_norm to 1'
  )
