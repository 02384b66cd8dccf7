"""A file lock that lets one process at a time use the folder of a run."""

from collections.abc import Iterator
import contextlib
import errno
import fcntl
import os
import pathlib
import socket

from cellseg_jax.inside import open_no_link


class LockedError(RuntimeError):
  """Another process is using this folder."""


@contextlib.contextmanager
def locked(workdir: pathlib.Path) -> Iterator[None]:
  """Locks a folder while the context is entered.

  The system releases the lock when the process ends. On file systems without
  locks, nothing is locked.

  Args:
    workdir: An existing folder. The file `.lock` in it is left behind; its mere
      presence does not mean that the folder is locked.

  Raises:
    LockedError: Another process, named in the message, holds the lock.
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
