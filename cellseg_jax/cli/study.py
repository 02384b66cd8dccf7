"""The common part of the commands that train several times.

It parses their flags, runs a study and turns errors into exit codes.
"""

from collections.abc import Callable, Sequence
import pathlib
import sys

from absl import flags

from cellseg_jax.cli import config_flag, process
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.validation import validate

DEFAULT = 'cells'
# The last part of the usage of every study.
CONFIG = """
Takes the --config flags of cellseg train (default: cells). Each run lies in a
folder of its own below --out; the same command goes on where it was stopped,
and makes no finished run again. On a single GPU runs that can be are made
together, elsewhere one after another; --config.training.steps says how long
each is.
"""


def main(
  argv: Sequence[str],
  usage: str,
  values: flags.FlagValues,
  study: Callable[[Config, pathlib.Path], str],
) -> int:
  """Runs a study and prints its summary.

  Args:
    argv: The program's name, then its flags.
    usage: What `--help` shows, without the fields of the configuration.
    values: The flags of the command other than `--config` and `--out`.
    study: Takes config and folder, runs the study and returns a summary as
      text; it should import late.

  Returns:
    The exit code, which is 0; 2 for faulty flags or data; 3 if training could
    not go on; 128 plus the number of a signal that asked it to end.
  """
  out = flags.DEFINE_string('out', None, 'Folder.', flag_values=values)
  try:
    if config_flag.asks_for_help(argv):
      config_flag.show_help(argv, DEFAULT, usage + CONFIG)
      return 0
    config, _ = config_flag.parse_config(argv, DEFAULT, values)
    validate(config)
    if not out.value:
      raise ConfigError('--out=DIR is missing: the folder for runs and results')
  except (ConfigError, flags.Error) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  process.prepare()
  # Imported late: checking the flags need not wait the seconds this takes.
  from cellseg_jax.training import interrupts, loop, updates

  try:
    print(study(config, pathlib.Path(out.value)))
  except loop.BAD_INPUT as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except updates.TrainingError as error:
    print(f'error: {error}', file=sys.stderr)
    return 3
  except interrupts.Interrupted as interrupted:
    print(interrupted, file=sys.stderr)
    return interrupted.exit_code
  return 0
