"""The tables of cells of many files, merged into one CSV and one Parquet file.

The rows of each segmented file are stored as a part of their own, which is
replaced if the file is segmented again. The parts are merged one after another,
so that memory does not grow with their number.
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
# Approximate number of rows in memory at a time, and in a Parquet row group.
_ROWS = 50_000


class TableError(ValueError):
  """The part of a table is damaged or was not written by `write_part`."""


def part_path(out: str | pathlib.Path, name: str) -> pathlib.Path:
  """Returns the path of the part of one segmented file.

  Args:
    out: The folder of the merged tables.
    name: Name of the file's outputs, without folders.

  Raises:
    ValueError: The name is not a plain file name.
    OutsideError: The folder of the parts is a link that leads out of `out`.
  """
  if not is_plain(name):
    raise ValueError(f'{name!r} is not the name of a file without folders')
  return inside(out, pathlib.Path(PARTS, f'{name}.parquet'))


def write_part(path: str | pathlib.Path, table: Table) -> None:
  """Writes the rows of one segmented file, replacing its earlier ones.

  Args:
    path: The path that `part_path` returns; its folder is created.
    table: The table that `measure_cells` returns.
  """
  path = pathlib.Path(path)
  path.parent.mkdir(parents=True, exist_ok=True)
  with replacing(path) as partial:
    parquet.write_table(_arrow(table), partial)


def read_part(
  path: str | pathlib.Path, names: Sequence[str]
) -> dict[str, np.ndarray]:
  """Reads columns of a part; empty numbers become NaN.

  Args:
    path: A part that `write_part` wrote.
    names: Names of the columns.

  Raises:
    TableError: The part is damaged.
    FileNotFoundError: There is no such part.
  """
  with _opened(path) as file:
    table = file.read(columns=list(names))
  return {name: table[name].to_numpy() for name in names}


def merge_parts(
  parts: Sequence[str | pathlib.Path], out: str | pathlib.Path
) -> None:
  """Merges parts into `out/cells.csv` and `out/cells.parquet`.

  Each file is written atomically.

  Args:
    parts: The parts, in the order that their rows shall have. Their images may
      differ in the number of channels: columns that a part lacks stay empty.
    out: The folder to write to.

  Raises:
    TableError: A part is damaged.
    OSError: A part is missing, or the tables cannot be written.
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
  """Yields the rows of the parts in order, small parts together."""
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
  """Returns a table of cells as an Arrow table; NaN becomes empty."""
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
