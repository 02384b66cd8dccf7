"""Writes the results of a study as CSV."""

from collections.abc import Mapping, Sequence
import csv
import io
import pathlib
from typing import Any

from cellseg_jax.atomic import replace_text


def write_csv(path: pathlib.Path, rows: Sequence[Mapping[str, Any]]) -> None:
  """Writes rows as a CSV file, atomically.

  Args:
    path: CSV to write.
    rows: At least one row; all have the same columns. Floats are rounded to six
      significant digits.
  """
  text = io.StringIO()
  writer = csv.DictWriter(text, list(rows[0]), lineterminator='\n')
  writer.writeheader()
  for row in rows:
    writer.writerow({name: _shown(value) for name, value in row.items()})
  replace_text(path, text.getvalue())


def _shown(value: Any) -> Any:
  return f'{value:.6g}' if isinstance(value, float) else value
