"""Atomic replacement of files and folders.

Everything that the program writes whole goes through `replacing`: readers, and
runs that are killed, see either the old content or the new, never a part.
"""

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
  """Yields a temporary path that replaces `path` when the block ends.

  A reader never sees a partly written file, not even if the run is killed
  inside the block. The temporary path is hidden and in the same folder; if the
  block fails, it is removed and `path` is left as it was. The first time this
  process writes to a folder, temporary files that killed processes left there
  are removed.

  Args:
    path: File or folder to write; its parent must exist. An existing file is
      replaced in one step, an existing folder after it has been moved aside.

  Yields:
    The path to write to, with the same suffix.

  Raises:
    OSError: Raised inside the block or by the replacement; errors about the
      temporary path are raised again with `path` as the file name.
  """
  path = pathlib.Path(path)
  _sweep(path.parent.absolute())
  # Without the original name, which may already be as long as names can be.
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
      remove(left)


def replace_text(path: pathlib.Path, text: str) -> None:
  """Writes a text file atomically, replacing an existing one."""
  with replacing(path) as partial:
    partial.write_text(text)


def replace_json(path: pathlib.Path, values: Mapping[str, Any]) -> None:
  """Writes plain values as JSON, one per line, atomically."""
  replace_text(path, json.dumps(values, indent=1) + '\n')


def remove(path: pathlib.Path) -> None:
  """Removes a file or a folder, if it is there; of a link not its target."""
  if path.is_dir() and not path.is_symlink():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)


def _prefix() -> str:
  """Returns the prefix of this host's hidden names.

  It names the host because process ids of other hosts cannot be checked.
  """
  host = hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
  return f'.{host}-'


@functools.cache  # Listing a folder of ten thousand files is slow.
def _sweep(folder: pathlib.Path) -> None:
  """Removes temporary files of this host's processes that no longer run."""
  for left in folder.glob(f'{_prefix()}*.partial*'):
    process = left.name.removeprefix(_prefix()).split('-')[0]
    if process.isdecimal() and not _runs(int(process)):
      remove(left)


def _runs(process: int) -> bool:
  try:
    os.kill(process, 0)
  except ProcessLookupError:
    return False
  except PermissionError:  # It runs, but belongs to another user.
    return True
  return True
