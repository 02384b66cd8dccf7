"""Writes and reads `metrics.jsonl`, the log of a training run."""

import json
import pathlib
from typing import Any

from cellseg_jax.atomic import replace_text
from cellseg_jax.inside import open_no_link


class MetricsLog:
  """Appends to `metrics.jsonl`: one JSON object per line, with its `step`."""

  def __init__(self, path: str | pathlib.Path, step: int):
    """Prepares the log of a run that continues after `step`.

    Lines of later steps are dropped. They come from a run that was killed
    before its next checkpoint, and their steps are made again.

    Args:
      path: The file; if absent, the first `write` creates it.
      step: Updates made so far.
    """
    self._path = pathlib.Path(path)
    if self._path.exists():
      kept = [line for line in read_metrics(self._path) if line['step'] <= step]
      text = ''.join(json.dumps(line) + '\n' for line in kept)
      replace_text(self._path, text)

  def write(self, step: int, **values: Any) -> None:
    """Appends one line.

    Args:
      step: Updates made so far.
      **values: Further fields of the JSON object.
    """
    with open_no_link(self._path, 'a') as file:
      file.write(json.dumps({'step': step, **values}) + '\n')


def read_metrics(path: pathlib.Path) -> list[dict[str, Any]]:
  """Reads `metrics.jsonl` up to the first incomplete line."""
  lines = []
  for text in path.read_text().splitlines():
    try:
      lines.append(json.loads(text))
    except json.JSONDecodeError:
      break  # The process was killed while it wrote this line.
  return lines
