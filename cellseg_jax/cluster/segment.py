"""Files as tasks of a cluster.

Workers read the images and write the outputs themselves, so that all machines
must see them by the same paths; relative ones are those of the client. It alone
keeps the records of what became of them.
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
  """Segments files, each in one task; the blocks of large ones are tasks.

  A file that fails is tried once more, on another worker where there is one.

  Args:
    cluster: Where.
    model: That of the folders.
    jobs: What to do.
    work: See `Work`.

  Yields:
    What became of each, in the order in which they end; as
    `batch.segment_files`, and with the same outputs.

  Raises:
    ClusterError: The connection was lost.
    OSError: A record cannot be written.
  """
  large_ones: list[Job] = []
  # Of few files, more would be idle than need be.
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
  records.keep(work.out, outcome.job.name, outcome.record)
  return outcome


def _failed(outcome: Outcome | None) -> bool:
  return outcome is not None and outcome.record.status == 'failed'


def _segment_file(work: Work, few: bool, job: Job) -> Outcome | None:
  """Runs in a worker: a file to its outputs; None of one to be done in blocks.

  Args:
    work: See `Work`.
    few: Whether to leave all that is seen in tiles to be done in blocks.
    job: The file.
  """
  model = model_of(work)
  if _is_for_blocks(model, job, work.options, few):
    return None
  (outcome,) = batch.outcomes(model, [job], work.out, work.options, work.common)
  return outcome


def _is_for_blocks(
  model: Model, job: Job, options: files.Options, few: bool
) -> bool:
  channels = model.config.data.channels
  try:
    with files.opened(job.image, options, channels) as frames:
      fitted = files.fitted(model, frames[0].pixel_size, options)
      tiled = not files.is_small(fitted, frames[0])
      return tiled and (few or files.count_pixels(frames) > files.HELD)
  except FAULTS:
    return False  # Whoever reads it will say what is wrong.
