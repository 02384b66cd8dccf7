"""Many image files: a status each, and only what is left is done.

What became of a file lies in `OUT/.segment/NAME.json`, written when all its
outputs are; from these, `OUT/segment.jsonl` and the tables of cells are put
together, so that stopped runs and shards add up.
"""

from collections.abc import Callable, Iterator, Sequence
import contextlib
import dataclasses
import fcntl
import hashlib
import json
import pathlib
import re
import shutil
from typing import Any

import jax
import numpy as np

from cellseg_jax import serialization
from cellseg_jax.images import tables
from cellseg_jax.images.inside import inside, open_no_link
from cellseg_jax.inference import files, outputs
from cellseg_jax.inference.pipeline import overlapped
from cellseg_jax.inference.predict import Model
from cellseg_jax.inference.scale import expected_diameter

LOG = 'segment.jsonl'
_STATES = '.segment'
# Of outputs, after their name: those of `Frame.suffix`, and of formats.
_ENDING = re.compile(r'(_t\d+)?(_z\d+)?\.[a-z]+')


@dataclasses.dataclass(frozen=True)
class Job:
  """A file, and what its outputs are called."""

  image: pathlib.Path
  name: str


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


@dataclasses.dataclass(frozen=True)
class Outcome:
  """A record, and what only this run knows.

  Attributes:
    job: The file.
    record: What became of it.
    pixels: Of all its frames; 0 where it failed.
    confidence: As of `outputs.Written`.
  """

  job: Job
  record: Record
  pixels: int = 0
  confidence: tuple[dict[int, float], ...] = ()


def digest(model: Model, options: files.Options) -> str:
  """Digests all that outputs depend on but the images."""
  text = repr((serialization.flat(model.config), model.choices, options))
  result = hashlib.sha256(text.encode())
  for leaf in jax.tree.leaves(model.variables):
    result.update(np.asarray(leaf).tobytes())
  return result.hexdigest()


def left_to_do(
  jobs: Sequence[Job], out: pathlib.Path, common: str
) -> tuple[list[Job], int]:
  """Finds what is missing, changed or failed.

  Args:
    jobs: All.
    out: The folder of outputs.
    common: As `digest` returns.

  Returns:
    The jobs to do, in order, and how many of them were done before and failed
    or are out of date.
  """
  todo, again = [], 0
  for job in jobs:
    record = _read(_state(out, job.name))
    done = (
      record is not None
      and record.status == 'ok'
      and record.file == str(job.image)
      and record.made_from == _made_from(job.image, common)
      and all((out / path).exists() for path in record.outputs)
    )
    if not done:
      todo.append(job)
      again += record is not None
  return todo, again


@dataclasses.dataclass(frozen=True)
class Stages:
  """What is done with a file, one after another.

  Attributes:
    load: As `files.load`.
    find: As `files.find`.
    write: As `outputs.write`.
  """

  load: Callable[[pathlib.Path, files.Options, int], files.Loaded]
  find: Callable[[Model, files.Loaded, files.Options], list[files.Found]]
  write: Callable[..., outputs.Written]


def segment_files(
  model: Model,
  jobs: Sequence[Job],
  out: pathlib.Path,
  options: files.Options,
  common: str,
) -> Iterator[Outcome]:
  """Segments files; reads the next and writes the last meanwhile.

  Args:
    model: As `load_model` returns.
    jobs: What to do.
    out: The folder of outputs; there.
    options: How.
    common: As `digest` returns.

  Yields:
    What became of each, in order; its record is kept by then.

  Raises:
    OSError: A record cannot be written.
  """
  for outcome in outcomes(model, jobs, out, options, common):
    settle(out, outcome)
    yield outcome


def outcomes(
  model: Model,
  jobs: Sequence[Job],
  out: pathlib.Path,
  options: files.Options,
  common: str,
  stages: Stages | None = None,
) -> Iterator[Outcome]:
  """Segments files as `segment_files`, and keeps no record of them.

  Args:
    model: As for `segment_files`, as all that follow but the last.
    jobs: See there.
    out: See there.
    options: See there.
    common: See there.
    stages: What is done with a file; None is what one process does.

  Yields:
    What became of each, in order; for `settle`.
  """
  stages = stages or Stages(files.load, files.find, outputs.write)
  channels = model.config.data.channels
  made_from: dict[str, str] = {}

  def read(job: Job) -> files.Loaded:
    # Before it is read: a file that changes from then on is done again.
    made_from[job.name] = _made_from(job.image, common)
    return stages.load(job.image, options, channels)

  def compute(loaded: Any) -> Any:
    return loaded, stages.find(model, loaded, options)

  def write(job: Job, computed: Any) -> outputs.Written:
    loaded, found = computed
    size = loaded.frames[0].pixel_size
    expected = expected_diameter(model, options.diameter, size)
    return stages.write(loaded, found, out, job.name, options, expected)

  for job, result, seconds in overlapped(jobs, read, compute, write):
    yield _outcome(job, result, seconds, made_from.pop(job.name))


def failed(job: Job, common: str, fault: Exception) -> Outcome:
  """Returns the outcome of a file that failed before it could be tried."""
  return _outcome(job, fault, 0.0, _made_from(job.image, common))


def settle(out: pathlib.Path, outcome: Outcome) -> None:
  """Keeps a record; of a file that failed nothing else stays."""
  name = outcome.job.name
  if outcome.record.status == 'failed':
    # Nothing of an earlier form of the file is left to be taken for it.
    before = _read(_state(out, name))
    for path in before.outputs if before else ():
      _remove(out / path)
  _keep(out, name, outcome.record)


def _outcome(job: Job, result: Any, seconds: float, made_from: str) -> Outcome:
  """Makes an outcome of `outputs.Written`, or of the fault in its place."""
  if isinstance(result, Exception):
    reason = ' '.join(str(result).split()) or type(result).__name__
    record = Record(
      str(job.image), 'failed', 0, seconds, reason, '', made_from, ()
    )
    return Outcome(job, record)
  record = Record(
    str(job.image),
    'ok',
    result.cells,
    seconds,
    '',
    result.warning,
    made_from,
    result.outputs,
  )
  return Outcome(job, record, result.pixels, result.confidence)


def merge(out: pathlib.Path) -> None:
  """Puts log and tables together from what all runs and shards have done.

  Raises:
    OSError: They cannot be written.
    TableError: The table of a file is damaged.
  """
  lock_path = inside(out, pathlib.Path(_STATES, 'lock'))
  states = lock_path.parent
  states.mkdir(exist_ok=True)
  with open_no_link(lock_path, 'w') as lock:
    fcntl.flock(lock, fcntl.LOCK_EX)  # Shards may end at the same time.
    known = records(out)
    serialization.replace_text(out / LOG, ''.join(map(_line, known)))
    parts = [
      out / path
      for record in known
      for path in record.outputs
      if pathlib.Path(path).parent.name == tables.PARTS
    ]
    tables.merge_parts(parts, out)


def records(out: pathlib.Path) -> list[Record]:
  """Returns what became of every file in a folder of outputs, by file."""
  states = sorted((out / _STATES).glob('*.json'))
  known = filter(None, map(_read, states))
  return sorted(known, key=lambda record: record.file)


def _made_from(image: pathlib.Path, common: str) -> str:
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


def _state(out: pathlib.Path, name: str) -> pathlib.Path:
  return inside(out, pathlib.Path(_STATES, f'{name}.json'))


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


def _keep(out: pathlib.Path, name: str, record: Record) -> None:
  """Writes a record, and its line at the end of the log."""
  path = _state(out, name)
  path.parent.mkdir(exist_ok=True)
  serialization.replace_text(path, json.dumps(dataclasses.asdict(record)))
  with open_no_link(out / LOG, 'a') as log:
    log.write(_line(record))


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
