"""Files and folders that are whole or not there at all."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import shutil


@contextlib.contextmanager
def replacing(path: pathlib.Path) -> Iterator[pathlib.Path]:
  """Gives another name to write to, and renames to `path` at the end.

  A reader, or a run that is killed, never meets half a file. If the block
  raises, what it wrote is removed, and what was at `path` stays.

  Args:
    path: The file or folder to write; its parent must exist. An older one is
      replaced: a file at once, a folder after it was moved aside.

  Yields:
    A hidden path in the same folder, of the same suffix.
  """
  hidden = path.with_name(f'.{path.stem}.{os.getpid()}{path.suffix}')
  older = path.with_name(f'.{path.stem}.{os.getpid()}.old')
  try:
    yield hidden
    if hidden.is_dir() and path.is_dir():
      os.replace(path, older)
    os.replace(hidden, path)
  finally:
    for left in (hidden, older):
      _remove(left)


def _remove(path: pathlib.Path) -> None:
  if path.is_dir():
    shutil.rmtree(path)
  else:
    path.unlink(missing_ok=True)
