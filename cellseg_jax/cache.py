"""Where this package keeps what can be made again."""

import os
import pathlib


def user_cache() -> pathlib.Path:
  """Returns `~/.cache/cellseg_jax`, or that below `XDG_CACHE_HOME`."""
  base = os.environ.get('XDG_CACHE_HOME') or pathlib.Path.home() / '.cache'
  return pathlib.Path(base) / 'cellseg_jax'
