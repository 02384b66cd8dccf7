"""Records of the outcome of every segmented file.

Each record is stored as `OUT/.segment/NAME.json`, written after all outputs of
the file. `OUT/segment.jsonl` and the tables of cells are assembled from the
records, so that interrupted runs and shards combine.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import pathlib
import re

from cellseg_jax.atomic import remove, replace_text
from cellseg_jax.images import tables
from cellseg_jax.inference import outputs
from cellseg_jax.inside import inside, open_no_link

LOG = 'segment.jsonl'
_FOLDER = '.segment'
# What follows the base name in an output's file name: a `Frame.suffix` and the
# suffix of the format.
_ENDING = re.compile(r'(_t\d+)?(_z\d+)?\.[a-z]+')


@dataclasses.dataclass(frozen=True)
class Record:
  """The outcome of one file.

  A line of `segment.jsonl` holds all attributes except `made_from` and
  `outputs`.

  Attributes:
    file: Path of the image.
    status: 'ok' or 'failed'.
    cells: Number of cells in all frames; 0 if the file failed.
    seconds: Time spent on reading, computing and writing.
    reason: Why the file failed, or ''.
    warning: Warning that the cells are of unusual size, or ''.
    made_from: Digest of the file's path, size and modification time, the model
      and the options.
    outputs: Paths of the files written, relative to the output folder.
  """

  file: str
  status: str
  cells: int
  seconds: float
  reason: str
  warning: str
  made_from: str
  outputs: tuple[str, ...]


def read(out: pathlib.Path, name: str) -> Record | None:
  """Returns the record of a file, or None if there is no valid one.

  Args:
    out: The output folder.
    name: Base name of the file's outputs.
  """
  return _read(_path(out, name))


def read_all(out: pathlib.Path) -> list[Record]:
  """Returns all records in an output folder, sorted by file."""
  paths = sorted((out / _FOLDER).glob('*.json'))
  known = filter(None, map(_read, paths))
  return sorted(known, key=lambda record: record.file)


def keep(out: pathlib.Path, name: str, record: Record) -> None:
  """Writes a record and appends its line to the log.

  If the file failed, the outputs of its previous record are deleted.

  Args:
    out: The output folder; must exist.
    name: Base name of the file's outputs.
    record: The record to write.

  Raises:
    OSError: The record or the log cannot be written.
  """
  if record.status == 'failed':
    # Outputs of an earlier version of the file must not pass for current ones.
    before = read(out, name)
    for output in before.outputs if before else ():
      remove(out / output)
  path = _path(out, name)
  path.parent.mkdir(exist_ok=True)
  replace_text(path, json.dumps(dataclasses.asdict(record)))
  with open_no_link(out / LOG, 'a') as log:
    log.write(_line(record))


def merge(out: pathlib.Path) -> None:
  """Rebuilds the log and the tables from the records of all runs and shards.

  Args:
    out: The output folder.

  Raises:
    OSError: The log or a table cannot be written.
    TableError: The table of a file is damaged.
  """
  lock_path = inside(out, pathlib.Path(_FOLDER, 'lock'))
  lock_path.parent.mkdir(exist_ok=True)
  with open_no_link(lock_path, 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # Shards may finish at the same time.
    known = read_all(out)
    replace_text(out / LOG, ''.join(map(_line, known)))
    parts = [
      out / path
      for record in known
      for path in record.outputs
      if pathlib.Path(path).parent.name == tables.PARTS
    ]
    tables.merge_parts(parts, out)


def made_from(image: pathlib.Path, common: str) -> str:
  """Returns a digest that changes whenever a file's outputs are out of date.

  Args:
    image: An image file, or a folder of which all files count; the digest
      covers paths, sizes and modification times.
    common: The digest of model and options, as `batch.digest` returns it.
  """
  parts = [image]
  if image.is_dir():
    parts = sorted(path for path in image.rglob('*') if path.is_file())
  result = hashlib.sha256(common.encode())
  for path in parts:
    # A file that has disappeared fails anyway, and failed files are redone.
    with contextlib.suppress(OSError):
      status = path.stat()
      result.update(
        repr((str(path), status.st_size, status.st_mtime_ns)).encode()
      )
  return result.hexdigest()


def _path(out: pathlib.Path, name: str) -> pathlib.Path:
  return inside(out, pathlib.Path(_FOLDER, f'{name}.json'))


def _read(path: pathlib.Path) -> Record | None:
  """Returns the record at a path, or None if there is no valid one.

  A record is valid only if its outputs can be outputs of this package under its
  name, because the files that it lists may be deleted or merged into tables.
  """
  if not path.is_file():
    return None
  out = path.parent.parent
  try:
    values = json.loads(path.read_text())
    record = Record(**values | {'outputs': tuple(values['outputs'])})
    ours = all(
      _is_output(output, path.stem) and inside(out, output)
      for output in record.outputs
    )
  except (OSError, ValueError, TypeError, KeyError, RecursionError):
    return None
  for field in dataclasses.fields(Record):
    kind = tuple if field.name == 'outputs' else field.type
    ours &= type(getattr(record, field.name)) is kind
  return record if ours else None


def _is_output(path: str, name: str) -> bool:
  """Whether a relative path can be an output with the given base name."""
  place = pathlib.PurePath(path)
  folder, found = str(place.parent), place.name
  return (
    folder in ('.', tables.PARTS, *outputs.EXTRAS)
    and found.startswith(name)
    and bool(_ENDING.fullmatch(found.removeprefix(name)))
  )


def _line(record: Record) -> str:
  """Returns the line of `segment.jsonl` for a record."""
  values = dataclasses.asdict(record)
  shown = ('file', 'status', 'cells', 'seconds', 'reason', 'warning')
  return json.dumps({name: values[name] for name in shown}) + '\n'
