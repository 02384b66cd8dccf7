"""Prepared copies of data sets, each kept under a digest of its origin.

The digest covers everything that a copy was made from, so a changed file is
never used in its old form.
"""

from collections.abc import Callable, Mapping
import hashlib
import os
import pathlib
import tempfile
from typing import NamedTuple

from cellseg_jax.cache import user_cache
from cellseg_jax.config import ConfigError, DataConfig
from cellseg_jax.datasets.builder import LabelledImages, Listing


class Prepared(NamedTuple):
  """A prepared copy.

  Attributes:
    builder: Reads it.
    digest: SHA-256 (hex) of all it was made from, under which it is kept.
    files: Of each split the SHA-256 (hex) of every file, by its path in
      `data.path`; those that all splits depend on are in ''.
  """

  builder: LabelledImages
  digest: str
  files: Mapping[str, Mapping[str, str]]


def prepare(builder: type[LabelledImages], data: DataConfig) -> Prepared:
  """Prepares a copy of a data set, unless there is one of just these files.

  Raises:
    ConfigError: The files or the cache are not where the config says.
    LabelError: Names every file that cannot be trained on, and its fault.
  """
  listing = builder.listing(data)
  contents = _contents(listing)
  digest = _digest(builder, data, listing, contents)
  final = cache_folder(data) / f'{builder.name}-{digest[:32]}'
  make_once(final, lambda folder: builder(data=data, data_dir=folder).write())
  files = {
    split: {_shown(path, data): contents[path].hex() for path in paths}
    for split, paths in _paths(listing).items()
  }
  return Prepared(builder(data=data, data_dir=final), digest, files)


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


def _paths(listing: Listing) -> dict[str, list[pathlib.Path]]:
  """Returns the files of every split; in '' those that all depend on."""
  paths = {'': [*listing.files]}
  for split, pairs in listing.splits.items():
    paths[split] = [path for pair in pairs for path in pair.files]
  return paths


def _shown(path: pathlib.Path, data: DataConfig) -> str:
  """Returns a file's path in the folder of the set, or else its name."""
  if data.path and path.is_relative_to(data.path):
    return path.relative_to(data.path).as_posix()
  return path.name


def _contents(listing: Listing) -> dict[pathlib.Path, bytes]:
  """Returns the SHA-256 of every file that a set is made from."""
  found = {}
  for path in {path for paths in _paths(listing).values() for path in paths}:
    found[path] = b'absent'  # Or a pipe; reading the pair will say so.
    if path.is_file():
      with open(path, 'rb') as file:
        found[path] = hashlib.file_digest(file, 'sha256').digest()
  return found


def _digest(
  builder: type[LabelledImages],
  data: DataConfig,
  listing: Listing,
  contents: Mapping[pathlib.Path, bytes],
) -> str:
  """Digests the set's files, names, splits and the settings that matter."""
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
      digest.update(path.name.encode() + contents[path])
  digest.update(repr(listing.warnings).encode())
  return digest.hexdigest()
