"""Files and folders that are, at every moment, either the old or the new."""

from collections.abc import Iterator, Mapping
import contextlib
import functools
import hashlib
import json
import os
import pathlib
import shutil
import socket
from typing import Any
import uuid


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
  """Lends a temporary path, which takes the place of `path` at the end.

  A reader, or a run that is killed within the block, never meets half a file.
  What is temporary lies hidden in the same folder; where the block fails it is
  removed and `path` stays as it was. What processes that were killed have left
  in that folder goes the first time that this process writes there.

  Args:
    path: File or folder to write; its parent must exist. An older one is
      replaced: a file at once, a folder after it was moved aside.

  Yields:
    The path to write to, of the same suffix.

  Raises:
    OSError: As the block does, with `path` as its file name.
  """
  path = pathlib.Path(path)
  _sweep(path.parent.absolute())
  # No part of the name: that may already be as long as names can be.
  hidden = f'{_prefix()}{os.getpid()}-{uuid.uuid4().hex}.partial'
  partial = path.with_name(f'{hidden}{path.suffix}')
  older = path.with_name(f'{hidden}.old')
  try:
    yield partial
    if partial.is_dir() and path.is_dir():
      os.replace(path, older)
    os.replace(partial, path)
  except OSError as error:
    if error.errno is None or error.filename not in (None, str(partial)):
      raise
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    for left in (partial, older):
      _remove(left)


def replace_text(path: pathlib.Path, text: str) -> None:
  """Writes a file that is, at every moment, either the old or the new."""
  with replacing(path) as partial:
    partial.write_text(text)


def replace_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
  """Writes plain values as JSON, a line each, as `replace_text`."""
  replace_text(path, json.dumps(values, indent=1) + '\n')


def _prefix() -> str:
  """How all hidden names of this host begin; others' processes are unknown."""
  host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
  return f'.{host}-'


@functools.cache  # Listing a folder of ten thousand files takes long.
def _sweep(folder: pathlib.Path) -> None:
  """Removes what processes of this host that no longer run have left."""
  for left in folder.glob(f'{_prefix()}*.partial*'):
    process = left.name.removeprefix(_prefix()).split('-')[0]
    if process.isdecimal() and not _runs(int(process)):
      _remove(left)


def _runs(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # It is somebody else's.
    return True
  return True


def _remove(path: pathlib.Path) -> None:
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)
