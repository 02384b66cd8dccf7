"""Segments a list of files on a cluster, with one task per small file.

Workers read the images and write the outputs themselves, so all machines must
see them under the same paths; relative paths are resolved against the client's
working directory. Only the client writes the records of each file's outcome.
"""

from collections.abc import Iterator, Sequence
import functools

from cellseg_jax.cluster import large
from cellseg_jax.cluster.tasks import Cluster
from cellseg_jax.cluster.work import model_of, Work
from cellseg_jax.inference import batch, files, records
from cellseg_jax.inference.batch import Job, Outcome
from cellseg_jax.inference.pipeline import FAULTS
from cellseg_jax.inference.predict import Model


def segment_files(
  cluster: Cluster, model: Model, jobs: Sequence[Job], work: Work
) -> Iterator[Outcome]:
  """Segments files, one per task; large files are split into block tasks.

  A file that fails is retried once, on another worker if there is one. Large
  files come last, one after another.

  Args:
    cluster: The cluster that runs the tasks.
    model: The model loaded from `work.folders`.
    jobs: The files to segment.
    work: What all tasks of the run have in common.

  Yields:
    The outcome of each file, in order of completion. Outcomes and outputs are
    those of `batch.segment_files`.

  Raises:
    ClusterError: The connection was lost.
    OSError: A record cannot be written.
  """
  large_ones: list[Job] = []
  # With fewer files than threads, one task per file would leave some idle.
  few = len(jobs) < cluster.threads
  compute = functools.partial(_segment_file, work, few)
  for job, attempt in cluster.as_ended(compute, jobs, _failed):
    if attempt.fault is not None:
      yield _settled(work, batch.failed(job, work.common, attempt.fault))
    elif attempt.value is None:
      large_ones.append(job)
    else:
      yield _settled(work, attempt.value)
  for job in large_ones:
    with large.stages(cluster, work, job.name) as stages:
      for outcome in batch.outcomes(
        model, [job], work.out, work.options, work.common, stages
      ):
        yield _settled(work, outcome)


def _settled(work: Work, outcome: Outcome) -> Outcome:
  """Writes the record of an outcome and returns the outcome."""
  records.keep(work.out, outcome.job.name, outcome.record)
  return outcome


def _failed(outcome: Outcome | None) -> bool:
  return outcome is not None and outcome.record.status == 'failed'


def _segment_file(work: Work, few: bool, job: Job) -> Outcome | None:
  """Segments one file in a worker, unless it is to be split into blocks.

  Args:
    work: What all tasks of the run have in common.
    few: Whether to split every file that the network sees in tiles, however
      small.
    job: The file.

  Returns:
    The outcome, or None if the file is to be split into blocks.
  """
  model = model_of(work)
  if _is_for_blocks(model, job, work.options, few):
    return None
  (outcome,) = batch.outcomes(model, [job], work.out, work.options, work.common)
  return outcome


def _is_for_blocks(
  model: Model, job: Job, options: files.Options, few: bool
) -> bool:
  """Whether a file is to be split into blocks; see `_segment_file`."""
  channels = model.config.data.channels
  try:
    with files.opened(job.image, options, channels) as frames:
      fitted = files.fitted(model, frames[0].pixel_size, options)
      tiled = not files.is_small(fitted, frames[0])
      return tiled and (few or files.count_pixels(frames) > files.HELD)
  except FAULTS:
    return False  # The task that reads the file will report the error.
