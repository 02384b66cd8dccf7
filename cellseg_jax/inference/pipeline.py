"""Overlaps reading, computing and writing of files in three threads.

An exception in one file is passed on as its result and does not stop the
others.
"""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
import contextlib
import time
from typing import Any, Protocol, TypeVar

import jax

# Exceptions that count as the failure of one file and do not stop the run.
FAULTS = (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError)

Job = TypeVar('Job')


class Loaded(Protocol):
  """The result of reading a job; `resources` is closed after writing."""

  @property
  def resources(self) -> contextlib.ExitStack: ...


def overlapped(
  jobs: Sequence[Job],
  read: Callable[[Job], Loaded],
  compute: Callable[[Loaded], Any],
  write: Callable[[Job, Any], Any],
) -> Iterator[tuple[Job, Any, float]]:
  """Runs three stages for every job, overlapping the stages of different jobs.

  At most three jobs are in memory: one prefetched, one being computed and one
  being written.

  Args:
    jobs: The jobs, in order.
    read: Reads a job, in a thread of its own.
    compute: Turns the result of `read` into the input of `write`; runs in the
      calling thread.
    write: Writes the result of `compute`, in a thread of its own. Afterwards
      the resources of what was read are closed.

  Yields:
    Each job, in order, with the return value of `write` or the exception (one
    of `FAULTS`) of any stage, and the seconds spent on the job.
  """
  with (
    concurrent.futures.ThreadPoolExecutor(1) as reader,
    concurrent.futures.ThreadPoolExecutor(1) as writer,
  ):
    ahead = [reader.submit(_timed, read, job) for job in jobs[:1]]
    writing: tuple[Job, Any, float] | None = None
    try:
      for number, job in enumerate(jobs):
        loaded, seconds = ahead.pop().result()
        ahead += [
          reader.submit(_timed, read, one)
          for one in jobs[number + 1 : number + 2]
        ]
        computed, more = loaded, 0.0
        if not isinstance(loaded, Exception):
          computed, more = _timed(compute, loaded)
          if isinstance(computed, Exception):
            loaded.resources.close()
        if writing:
          yield _ended(writing)
        future = writer.submit(_timed, _closing(write, loaded), job, computed)
        writing = (job, future, seconds + more)
      if writing:
        yield _ended(writing)
    finally:
      for future in ahead:
        future.cancel()


def _closing(
  write: Callable[[Job, Any], Any], loaded: Any
) -> Callable[[Job, Any], Any]:
  """Wraps `write` to close the file afterwards and to pass on exceptions."""

  def finish(job: Job, computed: Any) -> Any:
    if isinstance(computed, Exception):
      return computed
    with loaded.resources:
      return write(job, computed)

  return finish


def _ended(writing: tuple[Job, Any, float]) -> tuple[Job, Any, float]:
  """Waits for a job to be written; returns it, its result and the seconds."""
  job, future, seconds = writing
  result, more = future.result()
  return job, result, round(seconds + more, 3)


def _timed(function: Callable, *arguments: Any) -> tuple[Any, float]:
  """Returns a function's result, or the exception it raised, and its seconds.

  Only exceptions in `FAULTS` are caught.
  """
  start = time.monotonic()
  try:
    result = function(*arguments)
  except FAULTS as error:
    result = error
  return result, time.monotonic() - start
