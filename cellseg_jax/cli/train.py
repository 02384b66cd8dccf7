"""`cellseg train` and `run_train.py`: run a training as absl flags say."""

from collections.abc import Sequence
import sys
import traceback

from absl import flags

from cellseg_jax.cli import config_flag, process
from cellseg_jax.config import ConfigError

# Exit code if another process of the run was lost.
LOST = 4


def main(argv: Sequence[str], default: str = 'quickstart') -> int:
  """Trains a model, or replays an update, as the flags say.

  In a run of several processes, a process that fails alone, while the others
  wait for it, exits instead of returning.

  Args:
    argv: The program's name, then its flags.
    default: Name or file of the experiment if `--config` is not given.

  Returns:
    The exit code, which is 0; 2 for faulty flags or data; 3 if training could
    not go on; 128 plus the number of a signal that asked it to end; for a lost
    process of several see `LOST`.
  """
  try:
    if config_flag.asks_for_help(argv):
      config_flag.show_help(argv, default, config_flag.USAGE)
      return 0
    config, workdir, replay_step, processes = config_flag.parse(argv, default)
  except (ConfigError, flags.Error) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  process.prepare(config.training.deterministic)
  # Imported late: checking the flags need not wait the seconds this takes.
  from cellseg_jax.report.run import write_report
  from cellseg_jax.training import interrupts, loop, parallel, replay, updates

  # Errors that all processes of a run raise at the same moment.
  together = parallel.Refused, updates.TrainingError, interrupts.Interrupted
  try:
    if processes:
      parallel.join(*processes)
    if replay_step is None:
      loop.train(config, workdir, write_report)
    else:
      replay.replay(config, workdir, replay_step)
    return 0
  except Exception as error:
    code = _explain(error, bool(processes))
    if processes and not isinstance(error, together):
      parallel.leave(code)
    return code


def _explain(error: Exception, several: bool) -> int:
  """Prints why a run ended and returns the exit code.

  Args:
    error: The error that the run raised.
    several: Whether this is one of several processes. If not, an error that is
      neither the user's nor the training's is raised again.
  """
  import jax

  from cellseg_jax.training import interrupts, loop, updates

  if isinstance(error, interrupts.Interrupted):
    print(error, file=sys.stderr)
    return error.exit_code
  if isinstance(error, (updates.TrainingError, *loop.BAD_INPUT)):
    print(f'error: {error}', file=sys.stderr)
    return 3 if isinstance(error, updates.TrainingError) else 2
  if not several:
    raise error
  if isinstance(error, jax.errors.JaxRuntimeError):
    (why, *_) = str(error).splitlines() or ['']
    print(
      f'error: this update cannot be made ({why}); another process of this run '
      'is gone, or out of memory: see what the others said. Started again, the '
      'same commands go on from the last checkpoint',
      file=sys.stderr,
    )
    return LOST
  traceback.print_exception(error)
  return 1
