"""`cellseg train` and `run_train.py`: absl flags to a training run."""

from collections.abc import Sequence
import sys

from absl import flags

from cellseg_jax.cli import config_flag, process
from cellseg_jax.config import ConfigError


def main(argv: Sequence[str], default: str = 'quickstart') -> int:
  """Trains, as the flags say.

  Args:
    argv: The program's name, then its flags.
    default: The experiment without `--config`: a file or a name.

  Returns:
    0; or 2 for faulty flags or data, 3 where training could not go on, and 128
    and the number of the signal where one asked it to end.
  """
  if {'--help', '-h', '--helpfull'} & set(argv[1:]):
    print(f'usage: {argv[0]} {config_flag.USAGE}')
    print(f'Fields and their defaults:\n{config_flag.describe()}')
    return 0
  try:
    config, workdir, replay_step, processes = config_flag.parse(argv, default)
  except (ConfigError, flags.Error) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  process.prepare()
  # Imported late: the flags are checked before the seconds this takes.
  from cellseg_jax.report.run import write_report
  from cellseg_jax.training import interrupts, loop, parallel, replay

  try:
    if processes:
      parallel.join(*processes)
    if replay_step is None:
      loop.train(config, workdir, write_report)
    else:
      replay.replay(config, workdir, replay_step)
  except loop.BAD_INPUT as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except loop.TrainingError as error:
    print(f'error: {error}', file=sys.stderr)
    return 3
  except interrupts.Interrupted as interrupted:
    print(interrupted, file=sys.stderr)
    return interrupted.exit_code
  return 0
