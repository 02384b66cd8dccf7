"""Records a run while it trains: checkpoints, metrics, progress bar, reports.

With several processes, only the first keeps a `Record`; the others compute the
same but write nothing (`NoRecord`).
"""

from collections.abc import Callable, Mapping
import contextlib
import pathlib
from typing import Any

from cellseg_jax import serialization
from cellseg_jax.config import Config
from cellseg_jax.environment import peak_memory
from cellseg_jax.evaluation.assess import scalars
from cellseg_jax.inside import inside
from cellseg_jax.progress import progress_bar
from cellseg_jax.training import optimizer as optimizer_lib
from cellseg_jax.training import provenance
from cellseg_jax.training.checkpoints import Checkpoints
from cellseg_jax.training.events import Events, SHOWN
from cellseg_jax.training.lock import locked
from cellseg_jax.training.metrics_log import MetricsLog
from cellseg_jax.training.results import Evaluated, write_evaluation
from cellseg_jax.training.step import TrainState

_FOLDERS = ('checkpoints', 'events', 'figures', 'report')

# Called with a run's folder and its newest evaluated model; makes a report.
Report = Callable[[pathlib.Path, Evaluated], object]


class Record:
  """Writes to the folder of a run and locks it; use as a context manager."""

  def __init__(
    self,
    workdir: pathlib.Path,
    config: Config,
    files: Mapping[str, str],
    report: Report | None = None,
    name: str = '',
  ):
    """Stores the arguments; nothing is written before the context is entered.

    Args:
      workdir: Folder of the run.
      config: The run's resolved configuration.
      files: Digest, by name, of every file that the run's images come from.
      report: Called with the folder and every evaluated model; exceptions that
        it raises do not stop the run.
      name: Prefix of the run's messages, to tell apart runs that are trained at
        the same time; '' for none.
    """
    self._workdir, self._config, self._report = workdir, config, report
    self._files = files
    self._name = name
    self._schedule = optimizer_lib.learning_rate_schedule(
      config.optimizer, config.training.steps
    )
    self._skipped = 0
    self._bar: Any = None
    self._compiled = False  # Whether updates were made by this process.

  def __enter__(self) -> 'Record':
    """Creates the folder if absent, locks it and opens its checkpoints.

    Raises:
      ConfigError: The folder holds a run of another config.
      LockedError: Another process is using the folder.
      ProvenanceError: The folder holds a run on other files.
      CheckpointError: There are checkpoints, but none is intact.
      OutsideError: A folder in it is a symbolic link that leads out of it; the
        run would write files, and delete old checkpoints, elsewhere.
    """
    provenance.check_config(self._workdir, self._config)
    with contextlib.ExitStack() as stack:
      # Not before the config is checked: a refused run leaves no folder behind.
      self._workdir.mkdir(parents=True, exist_ok=True)
      stack.enter_context(locked(self._workdir))
      for name in _FOLDERS:
        inside(self._workdir, pathlib.Path(name, 'file'))
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
    """Waits for the save in progress and unlocks the folder."""
    self._stack.__exit__(*exception)

  def say(self, text: str) -> None:
    """Prints a line, above the progress bar if there is one."""
    if self._name:
      text = f'{self._name}: {text}'
    if self._bar is None:
      print(text, flush=True)
    else:
      self._bar.write(text)

  def last_state(self, like: TrainState) -> TrainState:
    """Returns the last checkpoint's state, or `like` if there is none.

    Args:
      like: The initial state, which has the structure of any state of the run.

    Raises:
      CheckpointError: The checkpoint cannot be read or does not fit `like`.
    """
    last, steps = self._checkpoints.latest_step(), self._config.training.steps
    if last is None:
      return like
    if last == steps:
      self.say(
        f'{self._workdir} holds this run, finished: {last} steps. Nothing is '
        'trained; its pictures are drawn again'
      )
    else:
      self.say(f'Going on from step {last} of {steps} in {self._workdir}')
    return self._checkpoints.restore(last, like)

  def begin(self, state: TrainState) -> None:
    """Records a start of the run; opens logs and progress bar.

    Args:
      state: The state that the updates continue from.
    """
    first = int(state.step)
    changed = provenance.note_start(self._workdir, self._files, first)
    if changed:
      self.say(f'Warning: {changed}')
    self._skipped = int(state.skipped)
    self._log = MetricsLog(self._workdir / 'metrics.jsonl', first)
    self._events = self._stack.enter_context(
      Events(self._workdir / 'events', first, self.say)
    )
    self._bar = self._stack.enter_context(
      progress_bar(
        self._config.training.steps,
        self._name or 'training',
        'steps',
        initial=first,
      )
    )
    self._bar.set_postfix_str('compiling')

  def updates(
    self, step: int, skipped: int, loss: float | None, images_per_second: float
  ) -> None:
    """Logs the updates made since the previous call.

    Args:
      step: Total number of updates made.
      skipped: How many of all these updates were skipped.
      loss: Mean of the finite losses since the previous call; None if no loss
        was finite.
      images_per_second: Training speed, in crops per second.
    """
    rate = float(self._schedule(step - 1))
    values = {
      'loss': loss,
      'learning_rate': rate,
      'images_per_second': images_per_second,
    }
    self._log.write(step, **values)
    self._events.scalars(step, values)
    shown = 'not finite' if loss is None else f'{loss:.4f}'
    self._bar.set_postfix_str(f'loss {shown}, {images_per_second:.1f} crops/s')
    if self._compiled:
      self._bar.update(step - self._bar.n)
    else:
      # The time left is told from here on: compiling is done once.
      self._compiled = True
      self._bar.n = self._bar.initial = step
      self._bar.unpause()
    if skipped > self._skipped:
      self._skipped = skipped
      self._log.write(step, skipped=skipped)
      self.say(
        f'Warning: {skipped} of the updates up to step {step} were skipped: '
        'their loss or gradient was not finite'
      )

  def evaluated(self, state: TrainState, evaluated: Evaluated) -> None:
    """Logs and saves an evaluated state, and makes its report.

    `evaluation.json` is replaced if the state is the best so far.

    Args:
      state: The training state.
      evaluated: The model of that state, with its evaluation.
    """
    step, evaluation = int(state.step), evaluated.evaluation
    values = {
      split: scalars(evaluation[split]) for split in ('validation', 'training')
    }
    self._log.write(step, **values, peak_memory=peak_memory())
    for split, figures in values.items():
      self._events.scalars(step, figures, split)
    self.say(_line(step, values))
    metrics = {**values['validation'], **evaluation['settings']}
    if self._checkpoints.is_best(metrics):
      write_evaluation(self._workdir / 'evaluation.json', evaluation)
    self._checkpoints.save(state, metrics)
    self._events.pictures(step, evaluated.looks[:SHOWN])
    if step < self._config.training.steps:
      self.show(evaluated)
    else:  # `finish` makes the best model's report, and prints after the bar.
      self._bar.close()

  def show(self, evaluated: Evaluated) -> None:
    """Makes the report of a model; a failure is printed, not raised.

    Args:
      evaluated: The model, with its evaluation.
    """
    if self._report is None:
      return
    try:
      self._report(self._workdir, evaluated)
    except Exception as error:  # No failure of a report may stop the run.
      self.say(
        f'Warning: no report was written ({type(error).__name__}: {error}); '
        f'`cellseg report {self._workdir}` tries again'
      )

  def save(self, state: TrainState) -> None:
    """Starts to save a state that was not evaluated."""
    self._checkpoints.save(state)

  def wait(self) -> None:
    """Waits for the save in progress."""
    self._checkpoints.wait()


class NoRecord(Record):
  """The record of all processes but the first; prints and writes nothing."""

  def __enter__(self) -> 'NoRecord':
    return self

  def __exit__(self, *exception: Any) -> None: ...

  def say(self, text: str) -> None: ...

  def last_state(self, like: TrainState) -> TrainState:
    return like

  def begin(self, state: TrainState) -> None: ...

  def updates(
    self, step: int, skipped: int, loss: float | None, images_per_second: float
  ) -> None: ...

  def evaluated(self, state: TrainState, evaluated: Evaluated) -> None: ...

  def save(self, state: TrainState) -> None: ...


def _line(step: int, values: Mapping[str, Mapping[str, float]]) -> str:
  parts = (
    f'{split} AUC {v["roc_auc"]:.4f}, F1 {v["f1"]:.3f}'
    for split, v in values.items()
  )
  return f'step {step}: {"; ".join(parts)}'
