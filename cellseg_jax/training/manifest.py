"""Writes and verifies manifests: the SHA-256 of every file of a folder.

They reveal whether a folder, such as a checkpoint, has changed since it was
completed.
"""

from collections.abc import Collection
import hashlib
import json
import pathlib

from cellseg_jax.atomic import replace_json

NAME = 'manifest.json'


class ManifestError(ValueError):
  """A folder differs from its manifest, or has none that can be read."""


def write(folder: pathlib.Path, without: Collection[str] = ()) -> None:
  """Writes the SHA-256 of every file in a folder to `manifest.json` in it.

  Args:
    folder: The folder, with all its files written.
    without: Names of files directly in the folder to leave out, since they will
      still change.
  """
  _write(folder, _digests(folder, without))


def complete(folder: pathlib.Path) -> None:
  """Adds the files that the manifest lacks, without rereading the others."""
  known = json.loads((folder / NAME).read_text())
  _write(folder, known | _digests(folder, known))


def verify(folder: pathlib.Path, perhaps: Collection[str] = ()) -> None:
  """Compares a folder with its manifest.

  Args:
    folder: The folder that `write` was called with, perhaps renamed since.
    perhaps: Names of files directly in the folder that the manifest may lack.

  Raises:
    ManifestError: A file is damaged, missing or new, and the message names the
      first such file; or the manifest is missing or damaged.
  """
  if not (folder / NAME).is_file():
    raise ManifestError(f'{folder / NAME} is missing')
  try:
    expected = json.loads((folder / NAME).read_text())
  except (ValueError, RecursionError) as error:
    raise ManifestError(f'{folder / NAME} is damaged ({error})') from error
  found = _digests(folder)
  if not isinstance(expected, dict):
    raise ManifestError(f'{folder / NAME} is damaged')
  for name in sorted(expected.keys() | found.keys()):
    if name not in found:
      raise ManifestError(f'{folder / name} is missing')
    if name not in expected and name not in perhaps:
      raise ManifestError(f'{folder / name} does not belong there')
    if found[name] != expected.get(name, found[name]):
      raise ManifestError(f'{folder / name} is damaged')


def _write(folder: pathlib.Path, digests: dict[str, str]) -> None:
  replace_json(folder / NAME, digests)


def _digests(
  folder: pathlib.Path, without: Collection[str] = ()
) -> dict[str, str]:
  """Returns the SHA-256 (hex) of files by their paths in the folder.

  Leaves out the manifest and the files `without`.

  Raises:
    ManifestError: An entry is neither file nor folder; reading a pipe would
      never end.
  """
  digests = {}
  for path in sorted(folder.rglob('*')):
    name = path.relative_to(folder).as_posix()
    if path.is_file() and name != NAME and name not in without:
      with open(path, 'rb') as file:
        digests[name] = hashlib.file_digest(file, 'sha256').hexdigest()
    elif not (path.is_file() or path.is_dir()):
      raise ManifestError(f'{path} is neither file nor folder')
  return digests
