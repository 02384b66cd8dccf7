"""The folder for prepared data sets and compiled programs."""

import os
import pathlib


def user_cache() -> pathlib.Path:
  """Returns `$XDG_CACHE_HOME/cellseg_jax`; by default below `~/.cache`."""
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'cellseg_jax'
