"""What a running training shows and records."""

import json
import pathlib
import sys
from typing import Any

from tqdm import tqdm

from cellseg_jax.serialization import replace_text


class MetricsLog:
  """`metrics.jsonl`: one JSON object a line, each with its `step`."""

  def __init__(self, path: str | pathlib.Path, step: int):
    """Opens the log of a run that goes on after `step`.

    Lines after that step, of a run that was killed before its next
    checkpoint, are dropped: their steps are made again.

    Args:
      path: The file; created if absent.
      step: Updates made so far.
    """
    self._path = pathlib.Path(path)
    if self._path.exists():
      kept = [line for line in self._lines() if line['step'] <= step]
      text = ''.join(json.dumps(line) + '\n' for line in kept)
      replace_text(self._path, text)

  def write(self, step: int, **values: Any) -> None:
    """Appends one line."""
    with self._path.open('a') as file:
      file.write(json.dumps({'step': step, **values}) + '\n')

  def _lines(self) -> list[dict[str, float]]:
    lines = []
    for text in self._path.read_text().splitlines():
      try:
        lines.append(json.loads(text))
      except json.JSONDecodeError:
        break  # The kill fell in the middle of this line.
    return lines


def progress_bar(done: int, steps: int) -> tqdm:
  """Returns a bar with step, loss, images a second and time left.

  Where the output is no terminal, it is redrawn every ten seconds.
  """
  return tqdm(
    total=steps,
    initial=done,
    desc='training',
    unit='step',
    dynamic_ncols=True,
    mininterval=0.2 if sys.stderr.isatty() else 10,
  )
