"""Segments many image files in this process and skips those already done.

Also holds what the cluster shares with it: jobs, outcomes, stages and the
digest by which outdated outputs are recognised.
"""

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
  """An image file and the base name of its outputs."""

  image: pathlib.Path
  name: str


@dataclasses.dataclass(frozen=True)
class Outcome:
  """The record of a file, with details that are not stored.

  Attributes:
    job: The file.
    record: What is stored of the outcome.
    pixels: Number of pixels in all frames; 0 if the file failed.
    confidence: For each frame, the confidence of each cell by its label; empty
      if the file failed.
  """

  job: Job
  record: records.Record
  pixels: int = 0
  confidence: tuple[dict[int, float], ...] = ()


def digest(model: Model, options: files.Options) -> str:
  """Returns the SHA-256 of all that outputs depend on except the images."""
  text = repr((serialization.flat(model.config), model.choices, options))
  result = hashlib.sha256(text.encode())
  for leaf in jax.tree.leaves(model.variables):
    result.update(np.asarray(leaf).tobytes())
  return result.hexdigest()


def left_to_do(
  jobs: Sequence[Job], out: pathlib.Path, common: str
) -> tuple[list[Job], int]:
  """Finds the files whose outputs are missing, outdated or failed.

  Args:
    jobs: All files.
    out: The output folder.
    common: The digest of model and options, as `digest` returns it.

  Returns:
    The jobs to do, in order, and how many of them have a record from an
    earlier run (which failed or is out of date).
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
  """The three processing stages of a file, run one after another.

  Attributes:
    load: Opens a file; called like `files.load`.
    find: Finds the cells of every frame; called like `files.find`.
    write: Writes the outputs; called like `outputs.write`.
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
  """Segments files and records their outcomes.

  While one file is computed, the next is read and the previous one written.

  Args:
    model: The model, as `load_model` returns it.
    jobs: The files to segment.
    out: The output folder; must exist.
    options: How files are read and which outputs are written.
    common: The digest of model and options, as `digest` returns it.

  Yields:
    The outcome of each file, in order, after its record has been written.

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
  """Segments files like `segment_files`, but writes no records.

  Args:
    model: The model, as `load_model` returns it.
    jobs: The files to segment.
    out: The output folder; must exist.
    options: How files are read and which outputs are written.
    common: The digest of model and options, as `digest` returns it.
    stages: How a file is processed; None selects the stages of a single
      process.

  Yields:
    The outcome of each file, in order; the caller passes its record to
    `records.keep`.
  """
  stages = stages or Stages(files.load, files.find, outputs.write)
  channels = model.config.data.channels
  made_from: dict[str, str] = {}

  def read(job: Job) -> files.Loaded:
    # Taken before reading, so that a file that changes later is redone.
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
  """Returns the outcome of a file whose processing raised `fault`."""
  return _outcome(job, fault, 0.0, records.made_from(job.image, common))


def _outcome(job: Job, result: Any, seconds: float, made_from: str) -> Outcome:
  """Creates an outcome from `outputs.Written` or from an exception."""
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
