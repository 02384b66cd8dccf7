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
  """Returns a progress bar that suits where standard error goes.

  That is a redrawn bar in a terminal, a widget in a notebook, and otherwise a
  line of text every `LOG_EVERY` seconds.

  Args:
    total: Number of units.
    desc: Description of the work.
    unit: Name of the units.
    initial: Number of units that are already done.
    lines: Whether to write lines if neither a terminal nor a notebook is there;
      False if the caller prints lines of its own.
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
  """A bar for log files: writes a line of text now and then."""

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
    """Returns a function that prints a status on a line of its own."""

    def print_status(status: str) -> None:
      if status:
        file.write(f'{status}\n')
        file.flush()

    return print_status

  def set_postfix_str(self, s: str = '', refresh: bool = True) -> None:
    """Sets the text after the count, which the next line shows."""
    super().set_postfix_str(s, refresh=False)

  def update(self, n: float | None = 1) -> bool | None:
    """Adds to the count; writes a line if `LOG_EVERY` seconds have passed."""
    due = super().update(n)
    if due:
      self.display(pos=0)
    return due

  def clear(self, nolock: bool = False) -> None:
    """Does nothing, since written lines stay."""

  def refresh(self, nolock: bool = False, lock_args: Any = None) -> None:
    """Does nothing; tqdm calls this often, and only `update` writes lines."""

  def close(self) -> None:
    """Writes the last line."""
    if not self.disable:
      self.display(pos=0)
      self.sp = None  # Otherwise tqdm ends the line, as after a bar.
    super().close()
