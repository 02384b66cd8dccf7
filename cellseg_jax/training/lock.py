"""One process at a time in the folder of a run."""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
import pathlib
import socket

from cellseg_jax.inside import open_no_link


class LockedError(RuntimeError):
  """Another process trains in this folder."""


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Holds a folder; the system lets go of it when the process ends.

  On file systems without locks nothing is held.

  Args:
    workdir: An existing folder; `.lock` in it is left behind, and means nothing
      by itself.

  Raises:
    LockedError: Another process holds it; names it.
  """
  path = workdir / '.lock'
  with open_no_link(path, 'a+') as file:
    try:
      fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
      if error.errno not in (errno.EAGAIN, errno.EACCES):
        yield
        return
      file.seek(0)
      raise LockedError(
        f'{workdir}: another run is at work here ({file.read().strip()}); wait '
        'for it or choose another --workdir'
      ) from error
    file.truncate(0)
    file.write(f'process {os.getpid()} on {socket.gethostname()}\n')
    file.flush()
    yield
