"""The tables of many files as one CSV and one Parquet file, piece by piece.

Each file's rows are a part of their own, which is replaced when the file is
done again. All parts are then merged, one after another, so that memory does
not grow with their number.
"""

from collections.abc import Iterator, Sequence
import contextlib
import pathlib

import numpy as np
import pyarrow as pa
from pyarrow import csv, parquet

from cellseg_jax.atomic import replacing
from cellseg_jax.images.cells import Column, columns, Table
from cellseg_jax.inside import inside, is_plain

PARTS = '.cells'

_TYPES = {
  str: pa.string(),
  int: pa.int64(),
  float: pa.float64(),
  bool: pa.bool_(),
}
# Rows that are in memory at a time, and those of a Parquet row group.
_ROWS = 50_000


class TableError(ValueError):
  """The part of a file is not one that was written here."""


def part_path(out: str | pathlib.Path, name: str) -> pathlib.Path:
  """Returns where the part of one file lies.

  Args:
    out: The folder of the merged tables.
    name: The name that the file's outputs have; without folders.

  Raises:
    ValueError: The name could lead out of the folder.
    OutsideError: The parts' folder is a link that leads out of it.
  """
  if not is_plain(name):
    raise ValueError(f'{name!r} is not the name of a file without folders')
  return inside(out, pathlib.Path(PARTS, f'{name}.parquet'))


def write_part(path: str | pathlib.Path, table: Table) -> None:
  """Writes the rows of one file, in place of those that it had before.

  Args:
    path: As `part_path` returns; its folder is made.
    table: As `measure_cells` returns.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as partial:
    parquet.write_table(_arrow(table), partial)


def read_part(
  path: str | pathlib.Path, names: Sequence[str]
) -> dict[str, np.ndarray]:
  """Reads columns of what `write_part` wrote; empty numbers become NaN.

  Args:
    path: The part.
    names: Of the columns.

  Raises:
    TableError: The part is damaged.
    OSError: It is not there.
  """
  with _opened(path) as file:
    table = file.read(columns=list(names))
  return {name: table[name].to_numpy() for name in names}


def merge_parts(
  parts: Sequence[str | pathlib.Path], out: str | pathlib.Path
) -> None:
  """Writes `out/cells.csv` and `out/cells.parquet`, each whole or not at all.

  Args:
    parts: The parts, in the order that their rows are to have. Their images
      may have several numbers of channels: what a part lacks is empty.
    out: The folder to write to.

  Raises:
    TableError: A part is damaged.
    OSError: A part is not there, or the tables cannot be written.
  """
  out = pathlib.Path(out)
  schema = _schema(columns(0))
  for part in parts:
    with _opened(part) as file:
      schema = pa.unify_schemas([schema, file.schema_arrow])
  with (
    replacing(out / 'cells.csv') as csv_path,
    replacing(out / 'cells.parquet') as parquet_path,
    csv.CSVWriter(csv_path, schema) as csv_file,
    parquet.ParquetWriter(parquet_path, schema) as parquet_file,
  ):
    for rows in _batches(parts, schema):
      csv_file.write_table(rows)
      parquet_file.write_table(rows)


def _batches(
  parts: Sequence[str | pathlib.Path], schema: pa.Schema
) -> Iterator[pa.Table]:
  """Reads the parts in order, many small ones together."""
  waiting, rows = [schema.empty_table()], 0
  for part in parts:
    with _opened(part) as file:
      waiting.append(file.read())
    rows += waiting[-1].num_rows
    if rows >= _ROWS:
      yield pa.concat_tables(waiting, promote_options='default')
      waiting, rows = waiting[:1], 0
  yield pa.concat_tables(waiting, promote_options='default')


@contextlib.contextmanager
def _opened(part: str | pathlib.Path) -> Iterator[parquet.ParquetFile]:
  try:
    with parquet.ParquetFile(part) as file:
      yield file
  except FileNotFoundError:
    raise
  except (OSError, pa.ArrowException) as error:
    raise TableError(
      f'{part}: this part of the table of cells cannot be read ({error}); '
      'delete it and segment its image again'
    ) from error


def _arrow(table: Table) -> pa.Table:
  """Returns a table of cells as Arrow's; NaN becomes empty."""
  channels = sum(name.startswith('mean_intensity_') for name in table)
  schema = _schema(columns(channels))
  return pa.table(
    {
      field.name: pa.array(table[field.name], field.type, from_pandas=True)
      for field in schema
    },
    schema,
  )


def _schema(of: Sequence[Column]) -> pa.Schema:
  return pa.schema([(column.name, _TYPES[column.kind]) for column in of])
