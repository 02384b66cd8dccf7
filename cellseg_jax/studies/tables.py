"""What a study found, as CSV."""

from collections.abc import Mapping, Sequence
import csv
import io
import pathlib
from typing import Any

from cellseg_jax.atomic import replace_text


def write_csv(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes a row each, whole or not at all.

  Args:
    path: File to write.
    rows: At least one, all of the same columns; floats are rounded to six
      digits.
  """
  text = io.StringIO()
  writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
  writer.writeheader()
  for row in rows:
    writer.writerow({name: _shown(value) for name, value in row.items()})
  replace_text(path, text.getvalue())


def _shown(value: Any) -> Any:
  return f'{value:.6g}' if isinstance(value, float) else value
