"""Many image files, one after another, and only what is left to do."""

from collections.abc import Callable, Iterator, Sequence
import dataclasses
import hashlib
import pathlib
from typing import Any

import jax
import numpy as np

from cellseg_jax import serialization
from cellseg_jax.inference import files, outputs, records
from cellseg_jax.inference.pipeline import overlapped
from cellseg_jax.inference.predict import Model
from cellseg_jax.inference.scale import expected_diameter


@dataclasses.dataclass(frozen=True)
class Job:
  """A file, and what its outputs are called."""

  image: pathlib.Path
  name: str


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
  record: records.Record
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
    record = records.read(out, job.name)
    done = (
      record is not None
      and record.status == 'ok'
      and record.file == str(job.image)
      and record.made_from == records.made_from(job.image, common)
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
    records.keep(out, outcome.job.name, outcome.record)
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
    What became of each, in order; for `records.keep`.
  """
  stages = stages or Stages(files.load, files.find, outputs.write)
  channels = model.config.data.channels
  made_from: dict[str, str] = {}

  def read(job: Job) -> files.Loaded:
    # Before it is read: a file that changes from then on is done again.
    made_from[job.name] = records.made_from(job.image, common)
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
  return _outcome(job, fault, 0.0, records.made_from(job.image, common))


def _outcome(job: Job, result: Any, seconds: float, made_from: str) -> Outcome:
  """Makes an outcome of `outputs.Written`, or of the fault in its place."""
  if isinstance(result, Exception):
    reason = ' '.join(str(result).split()) or type(result).__name__
    record = records.Record(
      str(job.image), 'failed', 0, seconds, reason, '', made_from, ()
    )
    return Outcome(job, record)
  record = records.Record(
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
