"""The command that repeats a run, derived from its configuration."""

import pathlib
import shlex

from cellseg_jax import serialization
from cellseg_jax.config import Config
from cellseg_jax.experiments import EXPERIMENTS


def command(config: Config, workdir: pathlib.Path) -> str:
  """Returns a shell command that trains with this configuration.

  It names the recommended configuration with the fewest differences, and sets
  every field that differs from it.

  Args:
    config: The configuration.
    workdir: Folder of the run, which the command names.
  """
  differing = {
    name: serialization.changed(config, experiment())
    for name, experiment in EXPERIMENTS.items()
  }
  name = min(differing, key=lambda name: len(differing[name]))
  flags = [f'--config={name}', f'--workdir={workdir}']
  flags += [f'--config.{k}={v}' for k, v in differing[name].items()]
  return ' \\\n    '.join(['cellseg train', *map(shlex.quote, flags)])
