"""One progress bar for terminals, notebooks and log files."""

import sys
from typing import Any

from tqdm.auto import tqdm as tqdm_auto
from tqdm.std import tqdm

# Seconds between the lines of a log file.
LOG_EVERY = 30.0


def progress_bar(
  total: int, desc: str, unit: str, initial: int = 0, lines: bool = True
) -> tqdm:
  """Returns a bar that suits where the standard error goes.

  A bar that is redrawn in a terminal, a widget in a notebook, and elsewhere a
  line now and then, each ended as lines are.

  Args:
    total: Units in all.
    desc: What is done.
    unit: What is counted.
    initial: Units done before.
    lines: Whether a log file gets lines; not where it has others already.
  """
  options: dict[str, Any] = {
    'total': total,
    'desc': desc,
    'unit': unit,
    'initial': initial,
  }
  if sys.stderr.isatty():
    return tqdm(**options, dynamic_ncols=True, mininterval=0.2)
  if 'ipykernel' in sys.modules:
    return tqdm_auto(**options)
  return _Lines(**options) if lines else tqdm(**options, disable=True)


class _Lines(tqdm):
  """Writes lines of text, seldom, where nothing can be redrawn."""

  def __init__(self, **options: Any):
    super().__init__(
      **options,
      mininterval=LOG_EVERY,
      miniters=1,
      bar_format='{desc}: {n_fmt}/{total_fmt} {unit}, {elapsed} gone, '
      '{remaining} left{postfix}',
    )

  @staticmethod
  def status_printer(file: Any) -> Any:
    """Returns what prints a status: as a line of its own, if it is one."""

    def print_status(status: str) -> None:
      if status:
        file.write(f'{status}\n')
        file.flush()

    return print_status

  def set_postfix_str(self, s: str = '', refresh: bool = True) -> None:
    """Sets what follows the count; the next line shows it."""
    super().set_postfix_str(s, refresh=False)

  def update(self, n: float | None = 1) -> bool | None:
    """Counts; writes a line where the last one is long ago."""
    due = super().update(n)
    if due:
      self.display(pos=0)
    return due

  def clear(self, nolock: bool = False) -> None:
    """Does nothing: a line that was written stays."""

  def refresh(self, nolock: bool = False, lock_args: Any = None) -> None:
    """Does nothing: others than `update` ask for this often."""

  def close(self) -> None:
    """Writes the last line."""
    if not self.disable:
      self.display(pos=0)
      self.sp = None  # Or a line's end is written, as after a bar.
    super().close()
