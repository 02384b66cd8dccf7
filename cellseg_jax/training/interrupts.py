"""Signals that ask a run to stop.

`updates` checks for them: the run saves its state, says how to resume, and
raises `Interrupted`.
"""

from collections.abc import Callable
import os
import signal
import threading
from types import FrameType
from typing import Any

# Ctrl-C, a scheduler's time limit, and its advance warning (SLURM's
# --signal=USR1).
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)


class Interrupted(RuntimeError):
  """A run was asked to stop, and has saved its state.

  Attributes:
    exit_code: The shell's convention: 128 plus the number of the signal.
  """

  def __init__(self, number: int, said: str = ''):
    super().__init__(said)
    self.exit_code = 128 + number


class Interrupts:
  """A context manager that notes signals; the second one ends the process."""

  def __init__(self, share: Callable[[int], int] | None = None) -> None:
    """Starts with no signal noted.

    Args:
      share: With several processes, maps this process's value to the largest of
        all processes' values, so that all stop at the same update; else None.
    """
    self._share = share
    self._noted = 0
    self._before: dict[int, Any] = {}

  def __enter__(self) -> 'Interrupts':
    # Python allows signal handlers to be set only in the main thread.
    if threading.current_thread() is threading.main_thread():
      self._before = {n: signal.signal(n, self._note) for n in SIGNALS}
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  @property
  def asked(self) -> int:
    """Number of the signal that this process was sent; 0 if there was none.

    Always 0 with several processes, which must use `agreed`.
    """
    return 0 if self._share else self._noted

  def agreed(self) -> int:
    """Returns the number of the signal that any process was sent.

    All processes must call this at the same update.

    Returns:
      The largest number if there were several signals; 0 if there was none.
    """
    return self._share(self._noted) if self._share else self._noted

  def _note(self, number: int, frame: FrameType | None) -> None:
    if self._noted:
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
    self._noted = number
