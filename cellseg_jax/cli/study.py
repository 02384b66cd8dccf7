"""What the commands that train several times share: flags and exit codes."""

from collections.abc import Callable, Sequence
import pathlib
import sys

from absl import flags

from cellseg_jax.cli import config_flag, process
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.validation import validate

DEFAULT = 'cells'
# The last part of every usage.
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
  """Runs a study and prints what it found.

  Args:
    argv: The program's name, then its flags.
    usage: What `--help` shows, without the fields of the configuration.
    values: The flags of the command beside `--config` and `--out`.
    study: From config and folder to text for people; its imports are late.

  Returns:
    Exit code, as `cellseg train` has them.
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
  # Imported late: the flags are checked before the seconds this takes.
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
