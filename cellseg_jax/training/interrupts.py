"""Signals that ask a run to end: it saves, and says how to go on."""

from collections.abc import Callable
import os
import signal
import threading
from types import FrameType
from typing import Any

# Ctrl-C, a scheduler's end of time, and its notice before (SLURM's
# --signal=USR1).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(RuntimeError):
  """A run was asked to end, and has saved what it had.

  Attributes:
    exit_code: As shells have it: 128 and the number of the signal.
  """

  def __init__(self, number: int, said: str = ''):
    super().__init__(said)
    self.exit_code = 128 + number


class Interrupts:
  """Notes signals while it is entered; the second one ends the process."""

  def __init__(self, share: Callable[[int], int] | None = None) -> None:
    """Makes a note of no signal.

    Args:
      share: Of several processes, returns the largest of their values: all end
        at the same update.
    """
    self._share = share
    self._noted = 0
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'Interrupts':
    # Python allows handlers in the main thread alone.
    if threading.current_thread() is threading.main_thread():
      self._before = {n: signal.signal(n, self._note) for n in SIGNALS}
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  @property
  def asked(self) -> int:
    """The number of the signal, once there was one; 0 of several processes."""
    return 0 if self._share else self._noted

  def agreed(self) -> int:
    """Returns the number of the signal that one of the processes was sent.

    All must ask at the same update; 0 where there was none.
    """
    return self._share(self._noted) if self._share else self._noted

  def _note(self, number: int, frame: FrameType | None) -> None:
    if self._noted:
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
    self._noted = number
