"""Parsing of the command-line flags of a training run into a `Config`.

`ml_collections.config_flags` reads `--config=FILE` and `--config.part.field`.
This module adds what it lacks: unknown fields are refused with a list of the
existing ones, a frozen configuration can be set through a mutable draft, and a
configuration can be given by name instead of by file.
"""

from collections.abc import Callable, Sequence
import os
import pathlib
import re
import runpy
import sys
from typing import Any, NamedTuple

from absl import flags
from ml_collections import config_dict, config_flags
from ml_collections.config_flags.config_flags import ConfigFileFlagParser

from cellseg_jax import serialization
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.experiments import EXPERIMENTS
from cellseg_jax.validation import validate

USAGE = """[--config=EXPERIMENT] [--workdir=DIR] [--config.PART.FIELD=VALUE]...

Trains a cell segmenter. Started again with the same flags, an interrupted run
goes on where its last checkpoint was saved. With --replay_step=N nothing is
trained: the crops, losses and gradient norms of update N are shown. One of
several processes is told of the others by --coordinator_address=HOST:PORT
--num_processes=N --process_id=I, or asks SLURM, Open MPI or Kubernetes with
--distributed.

Most used:
  --config=cells                    for images of your own, touching cells apart
  --config.data.path=FOLDER         holds images/ and labels/ with equal names
  --config.data.held_out=N          keeps N images from training, to check on
  --config.data.ignore_value=V      label of pixels that count neither way
  --config.training.steps=N         how many updates; the time is in proportion
  --config.training.seed=N          another draw of weights and crops
"""


class Flags(NamedTuple):
  """The parsed flags of a training run.

  Attributes:
    config: The configuration; validated here only for a single process.
    workdir: The folder of the run.
    replay_step: The update to show instead of training; None trains.
    processes: Address of the first process, number of processes and index of
      this one; () for a single process, three None if the cluster's scheduler
      is to be asked.
  """

  config: Config
  workdir: pathlib.Path
  replay_step: int | None
  processes: tuple[str | None, int | None, int | None] | tuple[()]


class _DraftParser(ConfigFileFlagParser):
  """Parser of `--config`: returns a `Config` as a mutable `ConfigDict`.

  Its errors do not name the flag and its value, as absl adds both.
  """

  def parse(self, path: str) -> config_dict.ConfigDict:
    draft = config_dict.ConfigDict(serialization.to_dict(_experiment(path)))
    return draft.lock()


def _experiment(path: str) -> Config:
  """Returns the experiment with a name, of a file, or a variant of a file.

  Raises:
    ConfigError: There is no such experiment, or it fails or is no `Config`.
  """
  config = EXPERIMENTS[path]() if path in EXPERIMENTS else _read(path)
  if not isinstance(config, Config):
    raise ConfigError(
      'its get_config() must return a cellseg_jax.config.Config, found '
      f'{type(config).__name__}'
    )
  return config


def _split(path: str) -> tuple[str, str]:
  """Splits `FILE:VARIANT` into file and variant, which is '' if not given."""
  file, _, variant = path.partition(':')
  return file, variant


def _read(path: str) -> object:
  """Runs `get_config` of an experiment file.

  `ConfigFileFlagParser` does the same, but its errors hold a traceback and no
  cause.

  Args:
    path: `FILE` or `FILE:VARIANT`.

  Raises:
    ConfigError: There is no such file, it has no `get_config`, or that fails.
  """
  file, variant = _split(path)
  if not pathlib.Path(file).is_file():
    raise ConfigError(
      f'no such file; give one, or one of {", ".join(EXPERIMENTS)}'
    )
  try:
    get_config = runpy.run_path(file).get('get_config')
    if get_config is None:
      raise ConfigError('the file defines no get_config()')
    return get_config(variant) if variant else get_config()
  except ConfigError:
    raise
  except Exception as error:
    raise ConfigError(
      f'get_config() failed: {type(error).__name__}: {error}'
    ) from error


def parse(argv: Sequence[str], default: str) -> Flags:
  """Parses the flags of a training run.

  Args:
    argv: The program's name, then its arguments.
    default: Name or file of the experiment if `--config` is not given.

  Raises:
    ConfigError: A field of the configuration is unknown, of the wrong type or
      impossible, or the arguments do not fit together.
    flags.Error: Another flag is unknown or has an impossible value.
  """
  values = flags.FlagValues()
  workdir = flags.DEFINE_string(
    'workdir',
    None,
    'Folder of the run; by default runs/ and the name of the experiment.',
    flag_values=values,
  )
  replay_step = flags.DEFINE_integer(
    'replay_step',
    None,
    'Shows crops, losses and gradient norms of this update, counted from 1, '
    'instead of training.',
    flag_values=values,
  )
  processes = _define_processes(values)
  config, name = parse_config(argv, default, values)
  several = processes()
  # With several processes all must learn of a fault: training validates the
  # configuration once they are connected.
  if not several:
    validate(config)
  folder = pathlib.Path(workdir.value or f'runs/{name}')
  return Flags(config, folder, replay_step.value, several)


def parse_config(
  argv: Sequence[str], default: str, values: flags.FlagValues
) -> tuple[Config, str]:
  """Parses `--config`, `--config.PART.FIELD` and the flags of a command.

  Args:
    argv: The program's name, then its arguments.
    default: Name or file of the experiment if `--config` is not given.
    values: The other flags of the command, which are parsed too.

  Returns:
    The configuration, not validated, and the name of the experiment.

  Raises:
    ConfigError: A field of the configuration is unknown or of the wrong type,
      a flag has an impossible value, or there is an argument without '--'.
    flags.Error: Another flag is unknown.
  """
  argv = list(argv)
  _check_fields(argv)
  config = config_flags.DEFINE_config_file(
    'config',
    None,
    'The experiment: a Python file with get_config(), FILE:VARIANT for one '
    'with get_config(variant), or one of '
    f'{", ".join(EXPERIMENTS)}; its fields are set by --config.PART.FIELD.',
    flag_values=values,
    sys_argv=argv,
  )
  values['config'].parser = _DraftParser('config')
  flags.set_default(config, default)
  try:
    rest = values(argv)[1:]
  except flags.IllegalFlagValueError as error:
    raise ConfigError(str(error).removeprefix('flag ')) from error
  if rest:
    raise ConfigError(f'unexpected argument {rest[0]!r}; flags begin with --')
  result = serialization.from_dict(config.value.to_dict())
  given: Any = values['config']
  file, variant = _split(given.config_filename)
  return result, '-'.join([pathlib.Path(file).stem, *filter(None, [variant])])


def _define_processes(
  values: flags.FlagValues,
) -> Callable[[], tuple[Any, ...]]:
  """Defines the flags for runs of several processes.

  Returns:
    A function that returns `Flags.processes` once the flags are parsed.
  """
  distributed = flags.DEFINE_bool(
    'distributed',
    False,
    'One of several processes, which SLURM, Open MPI or Kubernetes knows of.',
    flag_values=values,
  )
  address = flags.DEFINE_string(
    'coordinator_address',
    None,
    'One of several processes: host and port of the first one.',
    flag_values=values,
  )
  processes = flags.DEFINE_integer(
    'num_processes', None, 'How many processes there are.', flag_values=values
  )
  process = flags.DEFINE_integer(
    'process_id', None, 'Which of them this is, from 0.', flag_values=values
  )

  def given() -> tuple[Any, ...]:
    three = (address.value, processes.value, process.value)
    if any(value is not None for value in three) and None in three:
      raise ConfigError(
        '--coordinator_address, --num_processes and --process_id go together'
      )
    several = distributed.value or address.value is not None
    return three if several else ()

  return given


def asks_for_help(argv: Sequence[str]) -> bool:
  """Returns whether a flag asks for help."""
  return bool({'--help', '-h', '--helpfull'} & set(argv[1:]))


def show_help(argv: Sequence[str], default: str, usage: str) -> None:
  """Prints the usage of a command and all fields of the named experiment.

  Args:
    argv: The program's name, then its arguments, of which only `--config` is
      read.
    default: Name or file of the experiment if `--config` is not given.
    usage: Text after the program's name.

  Raises:
    ConfigError: There is no such experiment.
  """
  named = [word for word in argv[1:] if re.match(r'--?config=', word)]
  name = named[-1].partition('=')[2] if named else default
  try:
    values = serialization.flat(_experiment(name))
  except ConfigError as error:
    raise ConfigError(f'--config={name}: {error}') from error
  lines = [
    f'usage: {argv[0]} {usage}',
    f'Fields in --config={pathlib.Path(name).stem}, explained in '
    'cellseg_jax/config.py:',
    *(f'  --config.{field}={value}' for field, value in values.items()),
  ]
  try:
    print('\n'.join(lines), flush=True)
  except BrokenPipeError:  # `--help | head` has read enough.
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def _check_fields(argv: Sequence[str]) -> None:
  """Refuses `--config.PART.FIELD` for a part or field that does not exist."""
  known = serialization.to_dict(Config())
  for argument in argv[1:]:
    match = re.match(r'--?(?:no)?config\.([^=]*)', argument)
    if not match:
      continue
    part, _, field = match[1].partition('.')
    serialization.check_known(part, known, 'config')
    if not field:
      raise ConfigError(
        f'config.{part} is a group of fields; set one of '
        f'{", ".join(f"config.{part}.{name}" for name in known[part])}'
      )
    serialization.check_known(field, known[part], f'config.{part}')
