"""Files, and the tiles of large ones, as tasks of a Dask cluster.

Workers read the images and write the outputs themselves, so that all machines
must see them by the same paths; relative ones are those of the client. A few
tasks a worker are under way at a time: neither the scheduler nor the client
holds more, however many there are.
"""

import collections
from collections.abc import Iterator, Sequence
import concurrent.futures
import functools
import itertools
import pathlib
from typing import Any, NamedTuple

import numpy as np

from cellseg_jax.cluster.connect import ClusterError
from cellseg_jax.inference import batch, files, predict_large
from cellseg_jax.inference.batch import Job, Outcome
from cellseg_jax.inference.blocks import Box
from cellseg_jax.inference.ensemble import ensemble
from cellseg_jax.inference.load import load_model
from cellseg_jax.inference.pipeline import FAULTS
from cellseg_jax.inference.predict import Model

_AHEAD = 2  # Tasks a thread of the cluster that are under way.


class Work(NamedTuple):
  """What all tasks of a run have in common.

  Attributes:
    folders: Of the model, or of the members of an ensemble.
    out: Folder of the outputs.
    options: How files are read, and what is made of them.
    common: As `batch.digest` returns; workers check that theirs is the same.
  """

  folders: tuple[str, ...]
  out: pathlib.Path
  options: files.Options
  common: str


def segment_files(
  client: Any, model: Model, jobs: Sequence[Job], work: Work
) -> Iterator[Outcome]:
  """Segments files on a cluster; those that are large are cut into tiles.

  A file that fails is tried once more, on another worker where there is one.

  Args:
    client: A `distributed.Client`.
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
  large: list[Job] = []

  def small() -> Iterator[Job]:
    for job in jobs:
      if _is_large(model, job, work.options):
        large.append(job)
      else:
        yield job

  yield from _whole_files(client, small(), work)
  yield from batch.segment_files(
    model,
    large,
    work.out,
    work.options,
    work.common,
    functools.partial(_find_by_tiles, client, work),
  )


def _is_large(model: Model, job: Job, options: files.Options) -> bool:
  """Whether a file is to be cut into tiles; its header is read."""
  try:
    channels = model.config.data.channels
    with files.opened(job.image, options, channels) as frames:
      frame = frames[0]
    return not files.is_small(files.fitted(model, frame, options), frame)
  except FAULTS:
    return False  # Whoever reads it will say what is wrong.


def _whole_files(
  client: Any, jobs: Iterator[Job], work: Work
) -> Iterator[Outcome]:
  """Segments files, each in one task."""
  import distributed

  under_way: dict[Any, tuple[Job, bool]] = {}
  ended = distributed.as_completed()

  def submit(job: Job, again: bool, without: str = '') -> None:
    options = {}
    if without:  # Only then is the scheduler asked.
      workers = client.scheduler_info(-1)['workers']
      others = [worker for worker in workers if worker != without]
      options = {'workers': others or None, 'allow_other_workers': bool(others)}
    future = client.submit(_segment_file, work, job, pure=False, **options)
    under_way[future] = job, again
    ended.add(future)

  for job in itertools.islice(jobs, _window(client)):
    submit(job, again=False)
  for future in ended:
    job, again = under_way.pop(future)
    worker, outcome = '', None
    try:
      worker, outcome = _result(future)
    except FAULTS as fault:
      outcome = batch.failed(job, work.out, work.common, fault)
    future.release()
    if outcome.record.status == 'failed' and not again:
      submit(job, again=True, without=worker)
      continue
    yield outcome
    for job in itertools.islice(jobs, 1):
      submit(job, again=False)


def _segment_file(work: Work, job: Job) -> tuple[str, Outcome]:
  """Runs in a worker: a file to its outputs; returns the worker's address."""
  import distributed

  model = _model(work.folders, work.options, work.common)
  (outcome,) = batch.segment_files(
    model, [job], work.out, work.options, work.common
  )
  return distributed.get_worker().address, outcome


def _find_by_tiles(
  client: Any,
  work: Work,
  model: Model,
  loaded: files.Loaded,
  options: files.Options,
) -> list[files.Found]:
  """Finds the cells of a file as `files.find`, its tiles on the cluster."""

  def compute(number: int) -> predict_large.Compute:
    return functools.partial(_tiles, client, work, loaded.path, number)

  return files.find(model, loaded, options, compute)


def _tiles(
  client: Any,
  work: Work,
  path: pathlib.Path,
  number: int,
  model: Model,
  image: Any,
  turn: predict_large.Turn,
  limits: predict_large.Limits,
  tiles: Sequence[predict_large.Spans],
) -> Iterator[tuple[Box, np.ndarray]]:
  """Computes tiles as `predict_large.compute_tiles`, in the same order."""
  del model, image  # Every worker has its own.
  known: Any = tuple(np.asarray(limit) for limit in limits)
  task = functools.partial(_tile, work, path, number, turn, known)
  under_way: collections.deque[Any] = collections.deque()
  for tile in tiles:
    under_way.append(client.submit(task, tile, pure=False, retries=1))
    # Asked for every tile, which take seconds: workers may join.
    if len(under_way) > _window(client):
      yield _result(under_way.popleft())
  while under_way:
    yield _result(under_way.popleft())


def _tile(
  work: Work,
  path: pathlib.Path,
  number: int,
  turn: predict_large.Turn,
  limits: predict_large.Limits,
  spans: predict_large.Spans,
) -> tuple[Box, np.ndarray]:
  """Runs in a worker: a tile's share of the maps."""
  model = _model(work.folders, work.options, work.common)
  channels = model.config.data.channels
  loaded = _opened(path, path.stat().st_mtime_ns, work.options, channels)
  model = files.fitted(model, loaded.frames[number], work.options)
  return predict_large.compute_tile(
    model, loaded.pixels[number], turn, limits, spans
  )


@functools.lru_cache(maxsize=1)
def _model(
  folders: tuple[str, ...], options: files.Options, common: str
) -> Model:
  """Loads a model once a worker.

  Raises:
    ValueError: It is not the one that the client has.
  """
  model = ensemble([load_model(folder) for folder in folders])
  if batch.digest(model, options) != common:
    raise ValueError(
      f'{", ".join(folders)}: a worker finds another model there; all machines '
      'must see the same files, and run the same version'
    )
  return model


@functools.lru_cache(maxsize=1)
def _opened(
  path: pathlib.Path, time: int, options: files.Options, channels: int
) -> files.Loaded:
  """Opens a file once a worker, until it changes or another is wanted."""
  del time
  return files.load(path, options, channels)


def _window(client: Any) -> int:
  """Returns how many tasks should be under way."""
  workers = client.scheduler_info(-1)['workers'].values()
  return _AHEAD * max(1, sum(worker['nthreads'] for worker in workers))


def _result(future: Any) -> Any:
  """Waits for a task.

  Raises:
    OSError: The workers that ran it died, one after the other.
    ClusterError: The scheduler is gone.
  """
  import distributed

  try:
    return future.result()
  except distributed.KilledWorker as error:
    raise OSError(
      'the workers that ran it died, as they do when memory is short: '
      f'{str(error).partition(". ")[0]}'
    ) from error
  except (
    concurrent.futures.CancelledError,
    distributed.comm.CommClosedError,
  ) as error:
    raise ClusterError(
      'the connection to the cluster was lost; the same command goes on where '
      'this ended'
    ) from error
