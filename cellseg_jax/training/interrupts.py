"""Signals that ask a run to end: it saves, and says how to go on."""

from collections.abc import Iterator
import contextlib
import os
import signal
import threading
from types import FrameType

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
    self.number = number
    self.exit_code = 128 + number


class Interrupts:
  """Notes signals while it is entered; the second one ends the process."""

  def __init__(self) -> None:
    self.asked = 0  # The number of the signal, once there was one.
    self._before: dict[int, object] = {}
    self._at_once = False

  def __enter__(self) -> 'Interrupts':
    # Python allows handlers in the main thread alone.
    if threading.current_thread() is threading.main_thread():
      self._before = {n: signal.signal(n, self._note) for n in SIGNALS}
    return self

  def __exit__(self, *exception: object) -> None:
    for number, handler in self._before.items():
      signal.signal(number, handler)

  @contextlib.contextmanager
  def at_once(self) -> Iterator[None]:
    """Lets signals raise `Interrupted` in a block that changes nothing."""
    if self.asked:
      raise Interrupted(self.asked)
    self._at_once = True
    try:
      yield
    finally:
      self._at_once = False

  def _note(self, number: int, frame: FrameType | None) -> None:
    if self.asked:
      signal.signal(number, signal.SIG_DFL)
      os.kill(os.getpid(), number)
    self.asked = number
    if self._at_once:
      self._at_once = False
      raise Interrupted(number)
