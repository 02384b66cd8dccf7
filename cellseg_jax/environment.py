"""Package versions, devices and memory of the machine.

Used by `cellseg doctor`, the report, and the record that a run keeps.
"""

import importlib.metadata
import os
import pathlib
import platform
import re
import resource
import sys

PACKAGE = 'cellseg_jax'


def requirements() -> dict[str, str]:
  """Returns this package's dependencies and the versions it accepts.

  Dependencies of extras are left out. The result is empty if the package is not
  installed but imported from a source folder.
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
  """Returns the version of a package, or '' if it is not installed."""
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
  """Returns a description of each local device that JAX computes on."""
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
  """Returns available and total memory in bytes; None if not on Linux."""
  try:
    text = pathlib.Path('/proc/meminfo').read_text()
  except OSError:
    return None
  found = dict(re.findall(r'^(\w+):\s+(\d+) kB', text, re.MULTILINE))
  return 1024 * int(found['MemAvailable']), 1024 * int(found['MemTotal'])


def peak_memory() -> dict[str, int]:
  """Returns the peak memory so far, in bytes.

  `host` is that of this process, `device` that of its first device; `device` is
  absent if the device does not count it, as CPUs do not.
  """
  import jax

  unit = 1 if sys.platform == 'darwin' else 1024
  peak = {
    'host': unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
  }
  found = (jax.local_devices()[0].memory_stats() or {}).get('peak_bytes_in_use')
  return peak | ({'device': int(found)} if found else {})
