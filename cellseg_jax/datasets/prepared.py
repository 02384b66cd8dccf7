"""Prepared copies of data sets, each kept under a digest of its origin.

The digest covers everything that a copy was made from, so a changed file is
never used in its old form.
"""

from collections.abc import Callable
import hashlib
import os
import pathlib
import tempfile

from cellseg_jax.cache import user_cache
from cellseg_jax.config import ConfigError, DataConfig
from cellseg_jax.datasets.builder import LabelledImages


def prepare(
  builder: type[LabelledImages], data: DataConfig
) -> tuple[LabelledImages, str]:
  """Returns a builder whose copy is prepared, and the digest it is kept under.

  Raises:
    ConfigError: The files or the cache are not where the config says.
    LabelError: Names every file that cannot be trained on, and its fault.
  """
  digest = _digest(builder, data)
  final = cache_folder(data) / f'{builder.name}-{digest[:32]}'

  make_once(final, lambda folder: builder(data=data, data_dir=folder).write())
  return builder(data=data, data_dir=final), digest


def make_once(
  final: pathlib.Path, make: Callable[[pathlib.Path], None]
) -> None:
  """Makes a folder of a cache unless it is there, whole or not at all.

  It is made under another name and moved into place: what is killed meanwhile
  leaves nothing that is used later, and of two at the same time the first to
  finish wins.

  Args:
    final: The folder.
    make: Writes what it is to hold into the folder it is given, which it may
      have to make.
  """
  if final.is_dir():
    return
  with tempfile.TemporaryDirectory(
    dir=final.parent, prefix='.preparing-'
  ) as folder:
    made = pathlib.Path(folder) / 'copy'
    make(made)
    try:
      os.rename(made, final)
    except OSError:
      if not final.is_dir():  # Else another process was first.
        raise


def cache_folder(data: DataConfig) -> pathlib.Path:
  """Returns the folder of prepared copies, made if need be.

  Raises:
    ConfigError: It cannot be made or written to.
  """
  root = pathlib.Path(data.cache or user_cache()).expanduser().resolve()
  try:
    root.mkdir(parents=True, exist_ok=True)
  except OSError as error:
    raise ConfigError(
      f'config.data.cache: cannot make the folder {root} ({error}); name one '
      'that you can write to'
    ) from error
  if not os.access(root, os.W_OK):
    raise ConfigError(
      f'config.data.cache: cannot write to {root}; name a folder that you can '
      'write to'
    )
  return root


def _digest(builder: type[LabelledImages], data: DataConfig) -> str:
  """Digests the set's files, names, splits and the settings that matter."""
  listing = builder.listing(data)
  settings = (data.channels, data.ignore_value, data.binary_labels)
  digest = hashlib.sha256(
    repr((builder.name, str(builder.VERSION), settings)).encode()
  )
  entries = [('', '', listing.files)]
  for split, pairs in listing.splits.items():
    entries += [(split, pair.name, pair.files) for pair in pairs]
  for split, name, files in entries:
    digest.update(repr((split, name, len(files))).encode())
    for path in files:
      try:
        content = hashlib.sha256(path.read_bytes()).digest()
      except FileNotFoundError:
        content = b'absent'  # Reading the pair will say so.
      digest.update(path.name.encode() + content)
  digest.update(repr(listing.warnings).encode())
  return digest.hexdigest()
