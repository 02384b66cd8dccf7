"""What became of every file that was segmented: a record each.

It lies in `OUT/.segment/NAME.json`, written when all outputs of the file are;
from these, `OUT/segment.jsonl` and the tables of cells are put together, so
that stopped runs and shards add up.
"""

import contextlib
import dataclasses
import fcntl
import hashlib
import json
import pathlib
import re
import shutil

from cellseg_jax.atomic import replace_text
from cellseg_jax.images import tables
from cellseg_jax.inference import outputs
from cellseg_jax.inside import inside, open_no_link

LOG = 'segment.jsonl'
_FOLDER = '.segment'
# Of outputs, after their name: those of `Frame.suffix`, and of formats.
_ENDING = re.compile(r'(_t\d+)?(_z\d+)?\.[a-z]+')


@dataclasses.dataclass(frozen=True)
class Record:
  """A line of `segment.jsonl`.

  Attributes:
    file: The image.
    status: 'ok' or 'failed'.
    cells: How many, in all frames; 0 where it failed.
    seconds: Spent on it: reading, computing, writing.
    reason: Why it failed, else ''.
    warning: What is odd about its cells, else ''.
    made_from: Digest of the file's size and time, the model and the options.
    outputs: What was written, in the folder of outputs.
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
  """Returns a record; None where there is none, or not one of ours.

  Args:
    out: The folder of outputs.
    name: What the file's outputs are called.
  """
  return _read(_path(out, name))


def read_all(out: pathlib.Path) -> list[Record]:
  """Returns what became of every file in a folder of outputs, by file."""
  paths = sorted((out / _FOLDER).glob('*.json'))
  known = filter(None, map(_read, paths))
  return sorted(known, key=lambda record: record.file)


def keep(out: pathlib.Path, name: str, record: Record) -> None:
  """Writes a record, and its line at the end of the log.

  Of a file that failed nothing else stays.

  Args:
    out: The folder of outputs; there.
    name: What the file's outputs are called.
    record: What became of it.

  Raises:
    OSError: It cannot be written.
  """
  if record.status == 'failed':
    # Nothing of an earlier form of the file is left to be taken for it.
    before = read(out, name)
    for output in before.outputs if before else ():
      _remove(out / output)
  path = _path(out, name)
  path.parent.mkdir(exist_ok=True)
  replace_text(path, json.dumps(dataclasses.asdict(record)))
  with open_no_link(out / LOG, 'a') as log:
    log.write(_line(record))


def merge(out: pathlib.Path) -> None:
  """Puts log and tables together from what all runs and shards have done.

  Raises:
    OSError: They cannot be written.
    TableError: The table of a file is damaged.
  """
  lock_path = inside(out, pathlib.Path(_FOLDER, 'lock'))
  lock_path.parent.mkdir(exist_ok=True)
  with open_no_link(lock_path, 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # Shards may end at the same time.
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
  """Digests the name, size and time of a file, or of all files in a folder."""
  parts = [image]
  if image.is_dir():
    parts = sorted(path for path in image.rglob('*') if path.is_file())
  result = hashlib.sha256(common.encode())
  for path in parts:
    # A file that is gone by now has failed; it is done again in any case.
    with contextlib.suppress(OSError):
      status = path.stat()
      result.update(
        repr((str(path), status.st_size, status.st_mtime_ns)).encode()
      )
  return result.hexdigest()


def _path(out: pathlib.Path, name: str) -> pathlib.Path:
  return inside(out, pathlib.Path(_FOLDER, f'{name}.json'))


def _read(path: pathlib.Path) -> Record | None:
  """Returns a record; None where there is none, or not one of ours.

  What it names is removed where its image fails, and merged into the tables.
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
  """Whether a path can be one of the outputs of a name."""
  place = pathlib.PurePath(path)
  folder, found = str(place.parent), place.name
  return (
    folder in ('.', tables.PARTS, *outputs.EXTRAS)
    and found.startswith(name)
    and bool(_ENDING.fullmatch(found.removeprefix(name)))
  )


def _line(record: Record) -> str:
  values = dataclasses.asdict(record)
  shown = ('file', 'status', 'cells', 'seconds', 'reason', 'warning')
  return json.dumps({name: values[name] for name in shown}) + '\n'


def _remove(output: pathlib.Path) -> None:
  """Removes an output, a folder of Zarr perhaps; a link and not its target."""
  if output.is_dir() and not output.is_symlink():
    shutil.rmtree(output)
  else:
    output.unlink(missing_ok=True)
