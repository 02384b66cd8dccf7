"""Saves and restores checkpoints; the only module that uses Orbax.

A checkpoint is moved into place once it is complete, together with the SHA-256
of all its files (`manifest`), which are verified before it is read. The best
checkpoint and the last two are kept; two, so that a run can resume from the
second-to-last when the last is damaged.
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
  """Stops Orbax from also printing the errors that it raises.

  Lasts until the process ends. What is suppressed are the tracebacks logged by
  Orbax's threads, and those of TensorStore's remaining writes, which fail once
  nothing waits for them any more.
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
  """The last two checkpoints of a run and its best, saved asynchronously.

  A checkpoint holds the network's variables, the rest of the training state
  and, if the step was evaluated, the validation metrics. Use as a context
  manager: leaving it waits for the save in progress.
  """

  def __init__(
    self,
    folder: str | pathlib.Path,
    best_metric: str,
    tell: Callable[[str], None] | None = None,
  ):
    """Opens or creates the folder, after verifying all checkpoints in it.

    Args:
      folder: Folder of the checkpoints, one sub-folder per step.
      best_metric: The metric whose largest value is best.
      tell: Given by the run that writes here, not by readers: called with a
        sentence for each damaged checkpoint, which is moved aside. Without it,
        a damaged checkpoint is an error.

    Raises:
      CheckpointError: A checkpoint is damaged and `tell` is None, or no
        checkpoint is intact, or the folder cannot be opened.
      OutsideError: The folder for damaged checkpoints is a symbolic link that
        leads out of the run's folder.
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
    # Each process opens the folder on its own, without Orbax's barriers.
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
      # The writer removes what killed saves left; a reader must not, since a
      # temporary folder may belong to a save in progress.
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
    """Writes the manifest of a complete save before it is moved into place."""
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
    """Converts the error of a failed save to a readable `CheckpointError`.

    The save may have failed in another thread and earlier.
    """
    try:
      yield
    except (OSError, ValueError) as error:
      step, self._step = self._step, None
      # TensorStore appends its whole specification in brackets.
      (why, *_) = str(error).split(' [')
      raise CheckpointError(
        f'{self._manager.directory}: the checkpoint of step {step} '
        f'cannot be saved ({why}); those before it are kept. Make room if '
        'the disk is full, and start the same command again'
      ) from error

  def save(
    self, state: TrainState, metrics: Mapping[str, float] | None = None
  ) -> None:
    """Starts to save a state, after waiting for the previous save to end.

    Args:
      state: The state; its `step` names the checkpoint.
      metrics: Validation metrics, if the step was evaluated.

    Raises:
      CheckpointError: This save or the previous one failed.
    """
    _leave_out_echoes()
    # A copy, since the state's own buffers are donated to the next update.
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
      CheckpointError: The save failed; earlier checkpoints are kept.
    """
    with self._saving():
      self._manager.wait_until_finished()
      if self._step is not None:
        folder = pathlib.Path(self._manager.directory)
        manifest.complete(folder / f'{self._step}')
        self._step = None

  def latest_step(self) -> int | None:
    """Returns the last saved step, or None if there is none."""
    return self._manager.latest_step()

  def steps(self) -> list[int]:
    """Returns all saved steps in increasing order."""
    return sorted(self._manager.all_steps())

  def best_step(self) -> int | None:
    """Returns the saved step of the best metric.

    Returns:
      The last step if no saved step has the metric; None if no step is saved.
    """
    self.wait()  # The metrics of a save in progress cannot be read yet.
    scores = {
      step: self.metrics(step).get(self._metric)
      for step in self._manager.all_steps()
    }
    scored = {
      step: score for step, score in scores.items() if score is not None
    }
    if not scored:
      return self.latest_step()
    # Among equals the later one, which is what the preservation policy keeps.
    return max(scored, key=lambda step: (scored[step], step))

  def is_best(self, metrics: Mapping[str, float]) -> bool:
    """Returns whether metrics are at least as good as those of all saved steps.

    Args:
      metrics: Validation metrics, among them the `best_metric`.
    """
    step = self.best_step()
    before = self.metrics(step).get(self._metric) if step else None
    return before is None or metrics[self._metric] >= before

  def metrics(self, step: int) -> dict[str, float]:
    """Returns the metrics saved with a step; empty if there are none.

    Raises:
      CheckpointError: The metrics cannot be read, or are not numbers.
    """
    with reading(self._folder):
      found = self._manager.metrics(step) or {}
      return {name: float(value) for name, value in found.items()}

  def restore(self, step: int, like: TrainState) -> TrainState:
    """Loads a training state, whatever number of devices it was saved on.

    Args:
      step: A saved step.
      like: A state of the same config, for its structure, shapes and dtypes.

    Returns:
      The state as host arrays.

    Raises:
      CheckpointError: The checkpoint cannot be read or does not fit `like`.
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
    """Loads only the network's variables.

    Args:
      step: A saved step.
      config: The run's configuration.

    Returns:
      The variables as host arrays; the running average if the run keeps one.

    Raises:
      CheckpointError: The checkpoint cannot be read or does not fit the config.
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
      # Orbax compares the structure of NumPy trees, but not the arrays' shapes.
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
