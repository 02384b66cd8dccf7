"""What a run leaves while it trains: checkpoints, metrics, a bar.

Of several processes the first alone keeps a record; the others compute the same
and write nothing.
"""

from collections.abc import Mapping
import contextlib
import pathlib
from typing import Any

from cellseg_jax import serialization
from cellseg_jax.config import Config
from cellseg_jax.evaluation.assess import scalars
from cellseg_jax.training import optimizer as optimizer_lib
from cellseg_jax.training import provenance
from cellseg_jax.training.checkpoints import Checkpoints
from cellseg_jax.training.lock import locked
from cellseg_jax.training.progress import MetricsLog, progress_bar
from cellseg_jax.training.results import write_evaluation
from cellseg_jax.training.step import TrainState


class Record:
  """The folder of a run, held by this process; use as a context manager."""

  def __init__(
    self, workdir: pathlib.Path, config: Config, files: Mapping[str, str]
  ):
    """Names the folder; nothing is written before it is entered.

    Args:
      workdir: The folder.
      config: The run's.
      files: Digest of every file that its images come from.
    """
    self._workdir, self._config, self._files = workdir, config, files
    self._schedule = optimizer_lib.learning_rate_schedule(
      config.optimizer, config.training.steps
    )
    self._skipped = 0

  def __enter__(self) -> 'Record':
    """Makes the folder and opens it.

    Raises:
      ConfigError: It holds a run of another config.
      LockedError: Another process is at work there.
      ProvenanceError: It holds a run on other files.
      CheckpointError: No checkpoint is left that can be trusted.
    """
    provenance.check_config(self._workdir, self._config)
    with contextlib.ExitStack() as stack:
      # Only now: a run that is refused leaves no folder behind.
      self._workdir.mkdir(parents=True, exist_ok=True)
      stack.enter_context(locked(self._workdir))
      provenance.check_files(self._workdir, self._files)
      if not (self._workdir / 'config.json').exists():
        serialization.save(self._config, self._workdir / 'config.json')
      self._checkpoints = stack.enter_context(
        Checkpoints(
          self._workdir / 'checkpoints',
          self._config.training.best_metric,
          lambda said: self.say(f'Warning: {said}'),
        )
      )
      self._stack = stack.pop_all()
    return self

  def __exit__(self, *exception: Any) -> None:
    """Waits for the save in progress and lets go of the folder."""
    self._stack.__exit__(*exception)

  def say(self, text: str) -> None:
    """Prints a line."""
    print(text, flush=True)

  def last_state(self, like: TrainState) -> TrainState:
    """Returns the last checkpoint's state, or `like` where there is none."""
    last, steps = self._checkpoints.latest_step(), self._config.training.steps
    if last is None:
      return like
    if last == steps:
      self.say(f'{self._workdir} holds this run, finished: {last} steps')
    else:
      self.say(f'Going on from step {last} of {steps} in {self._workdir}')
    return self._checkpoints.restore(last, like)

  def begin(self, state: TrainState) -> None:
    """Notes a start, opens log and bar of the updates that follow a state."""
    first = int(state.step)
    changed = provenance.note_start(self._workdir, self._files, first)
    if changed:
      self.say(f'Warning: {changed}')
    self._skipped = int(state.skipped)
    self._log = MetricsLog(self._workdir / 'metrics.jsonl', first)
    self._bar = self._stack.enter_context(
      progress_bar(first, self._config.training.steps)
    )
    self._bar.set_postfix_str('compiling')

  def updates(
    self, state: TrainState, loss: float | None, images_per_second: float
  ) -> None:
    """Logs the updates since the last ones.

    Args:
      state: After them.
      loss: Mean of the finite ones, if any.
      images_per_second: How fast.
    """
    step, skipped = int(state.step), int(state.skipped)
    rate = float(self._schedule(step - 1))
    self._log.write(
      step,
      loss=loss,
      learning_rate=rate,
      images_per_second=images_per_second,
    )
    shown = 'not finite' if loss is None else f'{loss:.4f}'
    self._bar.set_postfix_str(f'loss {shown}, {images_per_second:.1f} images/s')
    self._bar.update(step - self._bar.n)
    if skipped > self._skipped:
      self._skipped = skipped
      self._log.write(step, skipped=skipped)
      self._bar.write(
        f'Warning: {skipped} of the updates up to step {step} were skipped: '
        'their loss or gradient was not finite'
      )

  def evaluated(self, state: TrainState, evaluation: Mapping[str, Any]) -> None:
    """Logs and saves a state with what it was found to be worth."""
    step = int(state.step)
    values = {
      split: scalars(evaluation[split]) for split in ('validation', 'training')
    }
    self._log.write(step, **values)
    self._bar.write(_line(step, values))
    metrics = {**values['validation'], **evaluation['settings']}
    if self._checkpoints.is_best(metrics):
      write_evaluation(self._workdir / 'evaluation.json', evaluation)
    self._checkpoints.save(state, metrics)

  def save(self, state: TrainState) -> None:
    """Starts to save a state."""
    self._checkpoints.save(state)

  def wait(self) -> None:
    """Waits for the save in progress."""
    self._checkpoints.wait()


class NoRecord(Record):
  """What the other processes have: nothing is printed or written."""

  def __enter__(self) -> 'NoRecord':
    return self

  def __exit__(self, *exception: Any) -> None: ...

  def say(self, text: str) -> None: ...

  def last_state(self, like: TrainState) -> TrainState:
    return like

  def begin(self, state: TrainState) -> None: ...

  def updates(
    self, state: TrainState, loss: float | None, images_per_second: float
  ) -> None: ...

  def evaluated(
    self, state: TrainState, evaluation: Mapping[str, Any]
  ) -> None: ...

  def save(self, state: TrainState) -> None: ...


def _line(step: int, values: Mapping[str, Mapping[str, float]]) -> str:
  parts = (
    f'{split} AUC {v["roc_auc"]:.4f}, F1 {v["f1"]:.3f}'
    for split, v in values.items()
  )
  return f'step {step}: {"; ".join(parts)}'
