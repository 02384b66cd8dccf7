"""The log of a training run."""

import json
import pathlib
from typing import Any

from cellseg_jax.atomic import replace_text
from cellseg_jax.inside import open_no_link


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
      kept = [line for line in read_metrics(self._path) if line['step'] <= step]
      text = ''.join(json.dumps(line) + '\n' for line in kept)
      replace_text(self._path, text)

  def write(self, step: int, **values: Any) -> None:
    """Appends one line."""
    with open_no_link(self._path, 'a') as file:
      file.write(json.dumps({'step': step, **values}) + '\n')


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads `metrics.jsonl` up to a line that is not whole."""
  lines = []
  for text in path.read_text().splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break  # A kill fell in the middle of this line.
  return lines
