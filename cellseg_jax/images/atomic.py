"""Files and folders that are, at every moment, either the old or the new."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil
import uuid


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
  """Lends a temporary path, which takes the place of `path` at the end.

  A reader, or a run that is killed within the block, never meets half a file.
  What is temporary lies hidden in the same folder; where the block fails it is
  removed and `path` stays as it was.

  Args:
    path: File or folder to write; its parent must exist. An older one is
      replaced: a file at once, a folder after it was moved aside.

  Yields:
    The path to write to, of the same suffix.

  Raises:
    OSError: As the block does, with `path` as its file name.
  """
  path = pathlib.Path(path)
  # No part of the name: that may already be as long as names can be.
  hidden = f'.{uuid.uuid4().hex}.partial'
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


def _remove(path: pathlib.Path) -> None:
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)
