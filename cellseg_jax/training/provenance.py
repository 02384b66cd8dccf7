"""What a run was made with and from, and what of that has changed since."""

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

# Where `.git` lies if this code is run from a checkout.
CHECKOUT = pathlib.Path(__file__).parents[2]

# Changed files that a message names.
_SHOWN = 5


class ProvenanceError(ValueError):
  """A run cannot go on as what it was: its files have changed."""


def environment() -> dict[str, Any]:
  """Returns what the bits of a run depend on beside its config and files."""
  return {
    'python': platform.python_version(),
    # A checkout need not be installed.
    **{name: version(name) or None for name in PACKAGES},
    'device_kind': jax.devices()[0].device_kind,
    'device_count': jax.device_count(),
    'process_count': jax.process_count(),
    'cpu_threads': cpu_threads(),
    'xla_flags': os.environ.get('XLA_FLAGS', ''),
    'commit': commit(),
  }


def cpu_threads() -> int:
  """Returns the threads that XLA computes with on the CPU.

  `NPROC`, where it is set, else the cores that this process may run on.
  """
  told = os.environ.get('NPROC', '')
  return int(told) if told.isdecimal() else cores()


def commit(root: pathlib.Path = CHECKOUT) -> str | None:
  """Returns the commit of a checkout, by default of the one that is run.

  It ends in `-dirty` where tracked files were changed; None where there is no
  checkout or no git.
  """
  if not (root / '.git').exists():  # Else git would look further up.
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
  """Refuses a folder that holds a run of another config.

  Raises:
    ConfigError: Names the fields that differ.
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
  """Refuses to go on from other files than a run began with.

  Args:
    workdir: The run's folder; nothing is compared where it has not begun.
    files: Digest of every file by its name.

  Raises:
    ProvenanceError: Names the files that are changed, missing or new.
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
  """Adds a start to `provenance.json`, which the first one makes.

  Args:
    workdir: The run's folder.
    files: Digest of every file by its name.
    step: Updates made before this start.

  Returns:
    What differs from the start before, in one line; empty if nothing does.
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
