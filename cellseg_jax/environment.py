"""The machine and the versions that this process runs on."""

import importlib.metadata
import os
import pathlib
import platform
import re
import resource
import sys

PACKAGE = 'cellseg_jax'


def requirements() -> dict[str, str]:
  """Returns the packages that this one needs, and the versions it takes.

  Those of extras are left out; empty where the package is not installed but
  found by its path.
  """
  try:
    required = importlib.metadata.requires(PACKAGE) or []
  except importlib.metadata.PackageNotFoundError:
    return {}
  names = {}
  for text in required:
    requirement, _, condition = text.partition(';')
    match = re.match(r'[\w.-]+', requirement)
    if match and 'extra' not in condition:
      names[match[0]] = requirement[match.end() :].strip()
  return names


def version(name: str) -> str:
  """Returns the version of an installed package, or '' without it."""
  try:
    return importlib.metadata.version(name)
  except importlib.metadata.PackageNotFoundError:
    return ''


def versions() -> dict[str, str]:
  """Returns the versions that results depend on, by name."""
  names = (PACKAGE, 'jax', 'jaxlib', 'flax', 'optax', 'numpy', 'scipy')
  return {
    **{name: version(name) for name in names if version(name)},
    'Python': platform.python_version(),
    'system': f'{platform.system()} {platform.machine()}',
  }


def devices() -> list[str]:
  """Returns the devices that JAX computes on, one text a device."""
  import jax

  return [
    f'CPU of {cores()} cores'
    if device.platform == 'cpu'
    else f'{device.platform} {device.id} ({device.device_kind})'
    for device in jax.local_devices()
  ]


def cores() -> int:
  """Returns the number of CPU cores that this process may use."""
  if sys.platform == 'linux':
    return len(os.sched_getaffinity(0))
  return os.cpu_count() or 1


def memory_of_host() -> tuple[int, int] | None:
  """Returns the free and all bytes of memory; None where Linux does not say."""
  try:
    text = pathlib.Path('/proc/meminfo').read_text()
  except OSError:
    return None
  found = dict(re.findall(r'^(\w+):\s+(\d+) kB', text, re.MULTILINE))
  return 1024 * int(found['MemAvailable']), 1024 * int(found['MemTotal'])


def peak_memory() -> dict[str, int]:
  """Returns the most bytes held so far: by this process, and on its device.

  `device` is absent where it is not counted, as on CPUs.
  """
  import jax

  unit = 1 if sys.platform == 'darwin' else 1024
  peak = {
    'host': unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
  }
  found = (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use')
  return peak | ({'device': int(found)} if found else {})
