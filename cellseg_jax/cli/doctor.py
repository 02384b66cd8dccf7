"""`cellseg doctor`: lists what the machine has and tests that it works."""

import argparse
from collections.abc import Iterator
import os
import pathlib
import platform
import shutil
import subprocess
import tempfile
from typing import Any, NamedTuple

from packaging.specifiers import SpecifierSet

from cellseg_jax import cache, environment
from cellseg_jax.cli import process

# Free disk space, in bytes, below which a run is likely to fail.
LEAST_DISK = 2**30
_GIB = 2**30


class Finding(NamedTuple):
  """One line of the output.

  Attributes:
    subject: What was examined.
    text: What was found.
    problem: What is broken and what to do; '' if nothing is.
  """

  subject: str
  text: str
  problem: str = ''


def run(arguments: argparse.Namespace) -> int:
  """Prints what was found, line by line, then what is broken.

  Returns:
    The exit code, which is 0, or 1 if something is broken.
  """
  del arguments  # There are none.
  process.prepare()
  problems = []
  for subject, text, problem in _findings():
    print(f'{subject + ":":<19}{text}', flush=True)
    if problem:
      problems.append(f'{subject}: {problem}')
  for problem in problems:
    print(f'Broken: {problem}')
  if not problems:
    print('Everything works.')
  return 1 if problems else 0


def _findings() -> Iterator[Finding]:
  """Yields the findings one by one, the slowest last."""
  yield _versions()
  yield _memory()
  yield _devices()
  yield _cuda()
  yield _compiled()
  yield from _disks()
  yield _self_test()


def _versions() -> Finding:
  versions = environment.versions()
  text = ', '.join(f'{name} {version}' for name, version in versions.items())
  wrong = []
  for name, wanted in environment.requirements().items():
    found = environment.version(name)
    if not found:
      wrong.append(f'{name} is not installed')
    elif not SpecifierSet(wanted).contains(found, prereleases=True):
      wrong.append(f'{name} {found} is installed, needed is {wanted}')
  advice = '; pip install -U cellseg_jax' if wrong else ''
  return Finding('versions', text, ', '.join(wrong) + advice)


def _memory() -> Finding:
  found = environment.memory_of_host()
  if found is None:
    return Finding('memory', f'not known on {platform.system()}')
  free, total = found
  return Finding(
    'memory', f'{free / _GIB:.1f} GiB free of {total / _GIB:.1f} GiB'
  )


def _devices() -> Finding:
  try:
    devices = environment.devices()
  except RuntimeError as error:  # JAX_PLATFORMS names a missing platform.
    reason = ' '.join(str(error).split())
    return Finding('devices', 'none', f'JAX finds no device: {reason}')
  return Finding('devices', ', '.join(devices))


def _cuda() -> Finding:
  """Finds whether CUDA is used, and if not, why."""
  driver = _driver()
  if not driver:
    return Finding(
      'CUDA', 'not used: no NVIDIA driver here (nvidia-smi finds none)'
    )
  import jax

  try:
    jax.devices('cuda')
    return Finding('CUDA', f'used; {driver}')
  except RuntimeError as error:
    reason = ' '.join(str(error).split())
  wanted = os.environ.get('JAX_PLATFORMS', '')
  if wanted and not {'cuda', 'gpu'} & set(wanted.split(',')):
    text = f'not used: JAX_PLATFORMS is {wanted}; {driver}'
    return Finding('CUDA', text)
  plugin = next(
    (
      f'{name} {environment.version(name)}'
      for name in ('jax-cuda13-plugin', 'jax-cuda12-plugin')
      if environment.version(name)
    ),
    '',
  )
  if plugin:
    problem = f'{plugin} is installed, but JAX cannot use it: {reason}'
  else:
    problem = (
      "there is a GPU, but not JAX's plugin for it; pip install "
      "'cellseg_jax[cuda]'"
    )
  return Finding('CUDA', f'not used; {driver}', problem)


def _driver() -> str:
  """Returns the NVIDIA driver's description of its GPUs; '' if none."""
  query = '--query-gpu=name,driver_version,memory.free,memory.total'
  try:
    result = subprocess.run(
      ['nvidia-smi', query, '--format=csv,noheader'],
      capture_output=True,
      text=True,
      check=True,
      timeout=30,
    )
  except (OSError, subprocess.SubprocessError):
    return ''
  gpus = []
  for line in result.stdout.splitlines():
    name, version, free, total = (part.strip() for part in line.split(','))
    gpus.append(f'{name}, driver {version}, {free} free of {total}')
  return '; '.join(gpus)


def _compiled() -> Finding:
  import jax

  config: Any = jax.config
  folder = config.jax_compilation_cache_dir
  if not folder:
    return Finding(
      'compiled programs',
      f'not kept: cannot write to {cache.user_cache()}; every process compiles '
      'anew. Set XDG_CACHE_HOME to a folder of your own',
    )
  sizes = [
    path.stat().st_size
    for path in pathlib.Path(folder).glob('*')
    if path.is_file()
  ]
  size = sum(sizes) / 2**20
  return Finding('compiled programs', f'{folder} ({size:.0f} MiB)')


def _disks() -> Iterator[Finding]:
  """Yields the free space at this folder, the cache and temporary files."""
  for name, folder in (
    ('here', pathlib.Path.cwd()),
    ('cache', cache.user_cache()),
    ('temporary', pathlib.Path(tempfile.gettempdir())),
  ):
    while not folder.exists():
      folder = folder.parent
    free = shutil.disk_usage(folder).free
    problem = ''
    if free < LEAST_DISK:
      problem = (
        f'less than {LEAST_DISK / _GIB:.0f} GiB is free at {folder}; make room'
      )
    text = f'{free / _GIB:.1f} GiB free at {folder}'
    yield Finding(f'disk, {name}', text, problem)


def _self_test() -> Finding:
  # Imported late, so that a broken package does not prevent the other findings.
  try:
    from cellseg_jax.training import self_test

    found = self_test.self_test()
  except Exception as error:  # Any error means that this machine cannot train.
    reason = ' '.join(str(error).split())
    return Finding('self-test', 'failed', f'{type(error).__name__}: {reason}')
  return Finding(
    'self-test',
    f'{self_test.STEPS} updates and an image segmented in {found.seconds:.1f} s'
    f' (compiling included); loss {found.first:.2f} to {found.last:.2f}, ROC '
    f'AUC {found.auc:.3f}, {found.cells} of 9 cells',
  )
