"""Records which software, devices and files a run used.

A run that resumes is checked against its config and files, and warned if the
software or the devices have changed.
"""

from collections.abc import Mapping
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

import jax

from cellseg_jax import serialization
from cellseg_jax.atomic import replace_json
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.environment import cores, version

NAME = 'provenance.json'

PACKAGES = (
  'cellseg_jax',
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'orbax-checkpoint',
  'numpy',
)

# Holds `.git` if this code is run from a checkout.
CHECKOUT = pathlib.Path(__file__).parents[2]

# Maximum number of changed files that a message names.
_SHOWN = 5


class ProvenanceError(ValueError):
  """A run cannot be resumed: files have changed, or its record is damaged."""


def environment() -> dict[str, Any]:
  """Returns what a run's exact results depend on besides config and files."""
  return {
    'python': platform.python_version(),
    # This package need not be installed if it is run from a checkout.
    **{name: version(name) or None for name in PACKAGES},
    'device_kind': jax.devices()[0].device_kind,
    'device_count': jax.device_count(),
    'process_count': jax.process_count(),
    'cpu_threads': cpu_threads(),
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
    'commit': commit(),
  }


def cpu_threads() -> int:
  """Returns the number of threads that XLA computes with on the CPU.

  It is the environment variable `NPROC` if that is set to a number, or else the
  number of cores that this process may run on.
  """
  told = os.environ.get('NPROC', '')
  return int(told) if told.isdecimal() else cores()


def commit(root: pathlib.Path = CHECKOUT) -> str | None:
  """Returns the commit of a checkout, by default of this code's own.

  Args:
    root: Folder of the checkout.

  Returns:
    The hash, with `-dirty` appended if tracked files were changed; None if
    there is no checkout or no git.
  """
  if not (root / '.git').exists():  # Or git would search the parent folders.
    return None
  describe = ('describe', '--always', '--abbrev=40', '--exclude=*', '--dirty')
  try:
    said = subprocess.run(
      ['git', '-C', str(root), *describe],
      capture_output=True,
      text=True,
      check=True,
      timeout=30,
    )
  except (OSError, subprocess.SubprocessError):
    return None
  return said.stdout.strip()


def check_config(workdir: pathlib.Path, config: Config) -> None:
  """Checks that a folder holds no run, or a run of the given config.

  Args:
    workdir: Folder of the run.
    config: The resolved configuration.

  Raises:
    ConfigError: The folder holds a run of another config; the message names the
      fields that differ.
  """
  path = workdir / 'config.json'
  if not path.exists():
    return
  before = serialization.load(path)
  there = serialization.flat(before)
  differing = [
    f'config.{field} (there {there[field]!r}, now {value!r})'
    for field, value in serialization.changed(config, before).items()
  ]
  if differing:
    raise ConfigError(
      f'{workdir} holds a run that differs in {", ".join(differing)}; choose '
      'another --workdir, or the same values to go on with that run'
    )


def check_files(workdir: pathlib.Path, files: Mapping[str, str]) -> None:
  """Checks that the files of a run are those that it began with.

  Args:
    workdir: Folder of the run; if no run has begun there, nothing is compared.
    files: Digest of every file by its name.

  Raises:
    ProvenanceError: Files are changed, missing or new, and the message names
      them; or `provenance.json` is damaged.
  """
  found = _read(workdir)
  if found is None:
    return
  before = found['files']
  what = {
    name: 'missing'
    if name not in files
    else ('changed' if name in before else 'new')
    for name in sorted(before.keys() | files.keys())
    if before.get(name) != files.get(name)
  }
  if what:
    named = [f'{name} is {how}' for name, how in what.items()]
    more = len(named) - _SHOWN
    shown = ', '.join(named[:_SHOWN]) + (f', {more} more' if more > 0 else '')
    raise ProvenanceError(
      f'{workdir} holds a run on other files: {shown}; put them back to go on '
      'with it, or choose another --workdir to train on what is there now'
    )


def note_start(
  workdir: pathlib.Path, files: Mapping[str, str], step: int
) -> str:
  """Appends a start of a run to `provenance.json`, created by the first start.

  Args:
    workdir: Folder of the run.
    files: Digest of every file by its name; stored by the first start only.
    step: Updates made before this start.

  Returns:
    One line on what differs from the previous start; '' if nothing does.
  """
  now = environment()
  found = _read(workdir) or {'files': dict(files), 'starts': []}
  starts = found['starts']
  then = starts[-1] if starts else now
  found['starts'] = [*starts, {'step': step, **now}]
  replace_json(workdir / NAME, found)
  differing = [
    f'{name} (then {then.get(name)!r}, now {value!r})'
    for name, value in now.items()
    if value != then.get(name)
  ]
  if not differing:
    return ''
  return (
    f'since the last start of this run there changed {", ".join(differing)}; '
    'its weights may differ in their last bits from those of a run that was '
    'not stopped'
  )


def _read(workdir: pathlib.Path) -> dict[str, Any] | None:
  path = workdir / NAME
  try:
    found = json.loads(path.read_text())
    if not (isinstance(found['files'], dict) and found['starts']):
      raise ValueError('it lists no files or no starts')
  except FileNotFoundError:
    return None
  except (ValueError, KeyError, TypeError) as error:
    raise ProvenanceError(
      f'{path} is damaged ({error}); remove it to go on without comparing the '
      'files with those that the run began with'
    ) from error
  return found
