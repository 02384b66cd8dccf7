"""`cellseg train` and `run_train.py`: absl flags to a training run."""

from collections.abc import Sequence
import sys
import traceback

from absl import flags

from cellseg_jax.cli import config_flag, process
from cellseg_jax.config import ConfigError

# The exit code where another process of the run is gone.
LOST = 4


def main(argv: Sequence[str], default: str = 'quickstart') -> int:
  """Trains, as the flags say.

  Args:
    argv: The program's name, then its flags.
    default: The experiment without `--config`: a file or a name.

  Returns:
    0; or 2 for faulty flags or data, 3 where training could not go on, and 128
    and the number of the signal where one asked it to end. Of several processes
    one that the others wait for does not return, but ends.
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
  # Imported late: the flags are checked before the seconds this takes.
  from cellseg_jax.report.run import write_report
  from cellseg_jax.training import interrupts, loop, parallel, replay, updates

  # What all processes of a run raise at the same moment.
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
  """Says what ended a run, for people, and returns the exit code.

  Args:
    error: Raised by the run.
    several: Whether this is one of several processes; else what is a fault of
      the program is raised again.
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
