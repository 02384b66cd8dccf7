"""Checkpoints: the only module that knows Orbax.

A checkpoint takes its place when it is whole, with a list of the SHA-256 of all
its files (`manifest`); it is compared with these before it is read. The last
two are kept, so that there is one to go on from when the last is damaged, and
the best.
"""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import logging
import math
import pathlib
import sys
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp
from orbax.checkpoint.checkpoint_managers import (
  AnyPreservationPolicy,
  BestN,
  LatestN,
)

from cellseg_jax.config import Config
from cellseg_jax.model import fcn
from cellseg_jax.training import manifest
from cellseg_jax.training.checkpoint_checks import (
  check_all,
  check_shape,
  CheckpointError,
  reading,
  WRITTEN_LAST,
)
from cellseg_jax.training.step import TrainState, variables_of, variables_to_use
from cellseg_jax.training.stored import check_stored

__all__ = ['CheckpointError', 'Checkpoints']


@functools.cache
def _leave_out_echoes() -> None:
  """Keeps Orbax from printing errors that it raises as well; until the end.

  These are the tracebacks of its threads, and of TensorStore's other writes,
  which end when nothing waits for them any more.
  """
  before = sys.unraisablehook

  def hook(unraisable: Any) -> None:
    if str(unraisable.exc_value) != 'Event loop is closed':
      before(unraisable)

  def keep(record: logging.LogRecord) -> bool:
    return not (record.exc_info and 'orbax' in record.pathname)

  sys.unraisablehook = hook
  logging.getLogger('absl').addFilter(keep)


class Checkpoints:
  """The last checkpoint of a run and its best; saved asynchronously.

  A checkpoint holds the variables, the rest of the training state, and the
  validation metrics where the step was evaluated. Use as a context manager:
  leaving it waits for the save in progress.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    best_metric: str,
    tell: Callable[[str], None] | None = None,
  ):
    """Opens or creates the folder.

    Args:
      folder: Where the checkpoints lie, one sub-folder a step.
      best_metric: The metric whose largest value is best.
      tell: For the one who trains: called with a sentence for each damaged
        checkpoint, which is moved aside; without it a damaged checkpoint is an
        error.

    Raises:
      CheckpointError: A checkpoint is damaged, or every one is.
    """
    folder = pathlib.Path(folder).absolute()
    check_all(folder, tell)
    self._metric = best_metric

    def score(metrics: Mapping[str, float]) -> float:
      return metrics.get(best_metric, -math.inf)

    best = BestN(
      get_metric_fn=score,
      n=1,
      keep_checkpoints_without_metrics=False,
    )
    folder.mkdir(parents=True, exist_ok=True)
    self._folder = folder
    # Of several processes each that opens a folder does so alone.
    this = jax.process_index()
    alone = ocp.options.MultiprocessingOptions(
      primary_host=this,
      active_processes={this},
      barrier_sync_key_prefix=f'process{this}',
    )
    options = ocp.CheckpointManagerOptions(
      preservation_policy=AnyPreservationPolicy([LatestN(2), best]),
      best_fn=score,  # Without it, metrics are not written.
      create=False,
      multiprocessing_options=alone,
      # Of saves that were killed; to a reader, one may be in progress.
      cleanup_tmp_directories=tell is not None,
      async_options=ocp.AsyncOptions(
        post_finalization_callback=self._write_manifest
      ),
    )
    with reading(folder):
      self._manager = ocp.CheckpointManager(
        folder, options=options, item_names=('variables', 'training')
      )
    self._step: int | None = None  # Of the save in progress.

  def _write_manifest(self) -> None:
    """Runs when all files of a save are written, before it takes its place."""
    folder = pathlib.Path(self._manager.directory)
    (partial,) = folder.glob(f'{self._step}.orbax-checkpoint-tmp*')
    manifest.write(partial, without=WRITTEN_LAST)

  def __enter__(self) -> 'Checkpoints':
    return self

  def __exit__(self, *exception: object) -> None:
    self.wait()
    self._manager.close()

  @contextlib.contextmanager
  def _saving(self) -> Iterator[None]:
    """Tells of a save that failed, perhaps in another thread, for people."""
    try:
      yield
    except (OSError, ValueError) as error:
      step, self._step = self._step, None
      # TensorStore adds its whole specification in brackets.
      (why, *_) = str(error).split(' [')
      raise CheckpointError(
        f'{self._manager.directory}: the checkpoint of step {step} '
        f'cannot be saved ({why}); those before it are kept. Make room if '
        'the disk is full, and start the same command again'
      ) from error

  def save(
    self, state: TrainState, metrics: Mapping[str, float] | None = None
  ) -> None:
    """Starts to save a state; waits first for the save before.

    Args:
      state: The state after its step.
      metrics: Validation metrics, where the step was evaluated.
    """
    _leave_out_echoes()
    # A copy: the arrays' own memory is donated to the next step.
    host = jax.tree.map(lambda x: np.array(x, copy=True), state)
    self.wait()
    with self._saving():
      self._step = int(host.step)
      self._manager.save(
        self._step,
        args=ocp.args.Composite(
          variables=ocp.args.StandardSave(variables_to_use(host)),
          training=ocp.args.StandardSave(_rest(host)),
        ),
        metrics=dict(metrics or {}),
        force=True,
      )

  def wait(self) -> None:
    """Waits for the save in progress.

    Raises:
      CheckpointError: It failed; those before it are kept.
    """
    with self._saving():
      self._manager.wait_until_finished()
      if self._step is not None:
        folder = pathlib.Path(self._manager.directory)
        manifest.complete(folder / f'{self._step}')
        self._step = None

  def latest_step(self) -> int | None:
    """Returns the last saved step, or None."""
    return self._manager.latest_step()

  def steps(self) -> list[int]:
    """Returns all saved steps, increasing."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """Returns the step of the best metric, else the last, or None."""
    self.wait()  # The metrics of a save in progress are not there to be read.
    scores = {
      step: self.metrics(step).get(self._metric)
      for step in self._manager.all_steps()
    }
    scored = {
      step: score for step, score in scores.items() if score is not None
    }
    if not scored:
      return self.latest_step()
    # Of equals the later, as the policy keeps.
    return max(scored, key=lambda step: (scored[step], step))

  def is_best(self, metrics: Mapping[str, float]) -> bool:
    """Says whether these metrics are no worse than any saved step's."""
    step = self.best_step()
    before = self.metrics(step).get(self._metric) if step else None
    return before is None or metrics[self._metric] >= before

  def metrics(self, step: int) -> dict[str, float]:
    """Returns the metrics saved with a step; empty where there are none.

    Raises:
      CheckpointError: They cannot be read, or are no numbers.
    """
    with reading(self._folder):
      found = self._manager.metrics(step) or {}
      return {name: float(value) for name, value in found.items()}

  def restore(self, step: int, like: TrainState) -> TrainState:
    """Loads a training state, on any number of devices.

    Args:
      step: A saved step.
      like: A state of the same config, for its structure.

    Returns:
      The state as host arrays.

    Raises:
      CheckpointError: The checkpoint does not fit `like`.
    """
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), like)
    items = self._restore(
      step, variables=variables_to_use(like), training=_rest(like)
    )
    variables, training = items['variables'], items['training']
    latest = training['latest'] if like.average else variables
    return TrainState(
      step=training['step'],
      skipped=training['skipped'],
      skipped_in_a_row=training['skipped_in_a_row'],
      params=latest['params'],
      batch_stats=latest.get('batch_stats', {}),
      opt_state=training['opt_state'],
      average=variables if like.average else {},
    )

  def restore_variables(self, step: int, config: Config) -> fcn.Variables:
    """Loads the network's variables alone.

    Args:
      step: A saved step.
      config: The run's configuration.

    Returns:
      The variables as host arrays.

    Raises:
      CheckpointError: The checkpoint does not fit the config.
    """
    shapes = jax.eval_shape(
      lambda key: fcn.init(key, config.model, config.data.channels),
      jax.random.key(0),
    )
    like = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), shapes)
    return self._restore(step, variables=like)['variables']

  def _restore(self, step: int, **like: Any) -> Any:
    with reading(self._folder, f'the checkpoint of step {step}'):
      for name, tree in like.items():
        check_stored(
          self._folder / f'{step}' / name,
          ocp.tree.to_flat_dict(tree, sep='.'),
          sum(x.size for x in jax.tree.leaves(tree)),
        )
      found = self._manager.restore(
        step,
        args=ocp.args.Composite(
          **{k: ocp.args.StandardRestore(v) for k, v in like.items()}
        ),
      )
      # Orbax compares the structure of NumPy trees, not their shapes.
      jax.tree_util.tree_map_with_path(check_shape, like, dict(found))
      return found


def _rest(state: TrainState) -> dict[str, Any]:
  rest = {
    'step': state.step,
    'skipped': state.skipped,
    'skipped_in_a_row': state.skipped_in_a_row,
    'opt_state': state.opt_state,
  }
  if state.average:
    rest['latest'] = variables_of(state)
  return rest
