"""Caches prepared copies of data sets.

A copy is kept under a digest of all files and settings that it is made from, so
a copy of files that have changed since is never used.
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
  """A prepared copy of a data set.

  Attributes:
    builder: The TFDS builder that reads the copy.
    digest: SHA-256 (hex) of all files and settings that the copy is made from;
      its first 32 digits are part of the copy's folder name.
    files: For each split, the SHA-256 (hex) of every file by its path in
      `data.path`. The key '' holds the files that all splits depend on.
  """

  builder: LabelledImages
  digest: str
  files: Mapping[str, Mapping[str, str]]


def prepare(builder: type[LabelledImages], data: DataConfig) -> Prepared:
  """Prepares a copy of a data set, unless the cache holds one of its files.

  Args:
    builder: The class of the data set.
    data: Where the data set lies, how to read it, and the cache folder.

  Raises:
    ConfigError: The files are not where the config says, or the cache folder
      cannot be made or written to.
    LabelError: Files cannot be trained on, and the message names the first ten
      and their faults; or no image has a labelled cell.
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
  """Makes a cache folder atomically, unless it exists.

  The folder is made under another name and moved into place. A process that is
  killed meanwhile leaves nothing that is used later; of two processes at the
  same time, the first to finish wins.

  Args:
    final: The folder; its parent exists.
    make: Creates the folder that it is given, and writes the contents into it.
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
      if not final.is_dir():  # Otherwise another process was first.
        raise


def cache_folder(data: DataConfig) -> pathlib.Path:
  """Returns the folder of prepared copies, and creates it if absent.

  Args:
    data: Names the folder in `cache`; '' is the user's cache folder.

  Raises:
    ConfigError: The folder cannot be created or written to.
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
  """Returns the files of every split; those of all splits under the key ''."""
  paths = {'': [*listing.files]}
  for split, pairs in listing.splits.items():
    paths[split] = [path for pair in pairs for path in pair.files]
  return paths


def _shown(path: pathlib.Path, data: DataConfig) -> str:
  """Returns a file's path relative to `data.path`, or else its name."""
  if data.path and path.is_relative_to(data.path):
    return path.relative_to(data.path).as_posix()
  return path.name


def _contents(listing: Listing) -> dict[pathlib.Path, bytes]:
  """Returns the SHA-256 of every file of a data set; b'absent' if missing."""
  found = {}
  for path in {path for paths in _paths(listing).values() for path in paths}:
    found[path] = b'absent'  # Or not a file; reading the pair reports it.
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
  """Digests files, names and splits of a set, and the settings that matter."""
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
