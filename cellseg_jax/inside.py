"""Checks that output paths stay inside their folder.

Names that come from input files or from others' folders are checked here before
anything is written to them.
"""

import os
import pathlib
from typing import IO


class OutsideError(ValueError):
  """A name leads out of the folder that it should be in."""


def inside(
  folder: str | pathlib.Path, name: str | pathlib.Path
) -> pathlib.Path:
  """Returns the path of a name in a folder, and refuses one outside it.

  Args:
    folder: The folder; it may be a symbolic link, and need not exist yet.
    name: Relative path of a file or folder at any depth inside `folder`.

  Raises:
    OutsideError: The name is absolute, empty, contains '..' or a null
      character, or a folder on the way is a link that leads out. The last
      component may itself be a link: atomic writing replaces it.
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
  """Returns whether a name is a plain file name, without folders.

  >>> is_plain('a.tif'), is_plain('../a.tif'), is_plain('..')
  (True, False, False)
  """
  return name not in ('', '.', '..') and not set(name) & set('/\\\0')


def open_no_link(path: str | pathlib.Path, mode: str) -> IO[str]:
  """Opens a text file for writing in place, but not through a symbolic link.

  Files that are written atomically do not need this: they are renamed into
  place.

  Args:
    path: The file.
    mode: As for `open`.

  Raises:
    OSError: The file cannot be opened, or is a link.
  """
  if os.path.islink(path):
    raise OSError(f'{path}: is a symbolic link; remove it')
  return open(
    path, mode, opener=lambda p, flags: os.open(p, flags | os.O_NOFOLLOW, 0o666)
  )
