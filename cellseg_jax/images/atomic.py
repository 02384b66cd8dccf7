"""Files that are, at every moment, either the old or the new."""

from collections.abc import Iterator
import contextlib
import os
import pathlib
import uuid


@contextlib.contextmanager
def replacing(path: str | pathlib.Path) -> Iterator[pathlib.Path]:
  """Lends a temporary path, which takes the place of `path` at the end.

  A reader, or a run that is killed within the block, never meets half a file.
  The temporary file lies hidden in the same folder; where the block fails it
  is removed and `path` stays as it was.

  Args:
    path: File to write; its folder must exist.

  Yields:
    The path to write to, of the same suffix.

  Raises:
    OSError: As the block does, with `path` as its file name.
  """
  path = pathlib.Path(path)
  # No part of the name: that may already be as long as names can be.
  partial = path.with_name(f'.{uuid.uuid4().hex}.partial{path.suffix}')
  try:
    yield partial
    os.replace(partial, path)
  except OSError as error:
    if error.errno is None or error.filename not in (None, str(partial)):
      raise
    raise OSError(error.errno, error.strerror, str(path)) from error
  finally:
    partial.unlink(missing_ok=True)
