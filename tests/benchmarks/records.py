"""Where measured figures are kept, with what they were measured on."""

import datetime
from importlib import metadata
import json
import os
import pathlib
import platform
import subprocess
from typing import Any

FOLDER = pathlib.Path(__file__).parent / 'records'
_PACKAGES = (
  'jax',
  'jaxlib',
  'flax',
  'optax',
  'numpy',
  'torch',
  'onnxruntime',
  'cellpose',
  'stardist',
  'instanseg-torch',
)


def environment() -> dict[str, Any]:
  """Describes machine, versions and commit."""
  import jax

  versions = {'python': platform.python_version()}
  for name in _PACKAGES:
    try:
      versions[name] = metadata.version(name)
    except metadata.PackageNotFoundError:
      continue
  commit = subprocess.run(
    ['git', 'describe', '--always', '--dirty'],
    cwd=FOLDER.parent,
    capture_output=True,
    text=True,
  ).stdout.strip()
  return {
    'time': datetime.datetime.now(datetime.UTC).isoformat(timespec='seconds'),
    'device': f'{jax.device_count()} x {jax.devices()[0].device_kind}',
    'processor': _processor(),
    'cores': len(os.sched_getaffinity(0)),
    'commit': commit,
    'versions': versions,
  }


def _processor() -> str:
  lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
  names = [line for line in lines if line.startswith('model name')]
  return names[0].partition(':')[2].strip() if names else platform.processor()


def append(path: pathlib.Path, part: str, figures: Any) -> None:
  """Adds a line to a record.

  Args:
    path: A JSON Lines file; made if need be.
    part: What was measured.
    figures: As JSON takes them.
  """
  path.parent.mkdir(parents=True, exist_ok=True)
  line = {'part': part, **environment(), 'figures': figures}
  with open(path, 'a') as file:
    file.write(json.dumps(line) + '\n')
