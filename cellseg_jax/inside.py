"""Names that come from files, as places to write to."""

import os
import pathlib
from typing import IO


class OutsideError(ValueError):
  """A name leads out of the folder that it should lie in."""


def inside(
  folder: str | pathlib.Path, name: str | pathlib.Path
) -> pathlib.Path:
  """Returns where a name lies in a folder, if it does.

  Args:
    folder: The folder; it may be a link, or not be there yet.
    name: Relative, of a file or folder in it or in folders within it.

  Raises:
    OutsideError: It is absolute, names no file, goes up, or a folder on the
      way is a link that leads out. The place itself may be a link: a file that
      is written whole replaces it.
  """
  folder, parts = pathlib.Path(folder), pathlib.PurePath(name).parts
  path = folder.joinpath(*parts)
  if (
    not parts
    or '..' in parts
    or '\0' in str(name)
    or pathlib.PurePath(name).is_absolute()
  ):
    raise OutsideError(
      f'{str(name)!r} does not name a file within {folder}; rename what it is '
      'made from'
    )
  if not path.parent.resolve().is_relative_to(folder.resolve()):
    raise OutsideError(
      f'{path}: leads out of {folder}, by a symbolic link; remove the link'
    )
  return path


def is_plain(name: str) -> bool:
  """Whether a name is that of a file, without folders.

  >>> is_plain('a.tif'), is_plain('../a.tif'), is_plain('..')
  (True, False, False)
  """
  return name not in ('', '.', '..') and not set(name) & set('/\\\0')


def open_no_link(path: str | pathlib.Path, mode: str) -> IO[str]:
  """Opens a text file to write, in place; never through a symbolic link.

  What is written whole needs no such care: it is renamed into place.

  Raises:
    OSError: It cannot be opened, or is a link.
  """
  if os.path.islink(path):
    raise OSError(f'{path}: is a symbolic link; remove it')
  return open(
    path, mode, opener=lambda p, flags: os.open(p, flags | os.O_NOFOLLOW, 0o666)
  )
