"""Files read, computed and written at the same time, faults included."""

from collections.abc import Callable, Iterator, Sequence
import concurrent.futures
import contextlib
import time
from typing import Any, Protocol, TypeVar

import jax

# What one faulty file raises; the others are worked on all the same.
FAULTS = (ValueError, OSError, MemoryError, jax.errors.JaxRuntimeError)

Job = TypeVar('Job')


class Loaded(Protocol):
  """What is read of a job, with what is to be closed after it."""

  @property
  def resources(self) -> contextlib.ExitStack: ...


def overlapped(
  jobs: Sequence[Job],
  read: Callable[[Job], Loaded],
  compute: Callable[[Loaded], Any],
  write: Callable[[Job, Any], Any],
) -> Iterator[tuple[Job, Any, float]]:
  """Runs three stages for every job, each on another job at a time.

  At most three jobs are in memory: one read ahead, one computed, one written.

  Args:
    jobs: What to do, in order.
    read: Opens a job.
    compute: Turns what was read into what is written; in this thread.
    write: Writes that; what was read is closed afterwards.

  Yields:
    Each job with what `write` returned, or the fault of any stage, and the
    seconds spent on it, in order.
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
  """Writes what was computed and closes the file; passes on faults."""

  def finish(job: Job, computed: Any) -> Any:
    if isinstance(computed, Exception):
      return computed
    with loaded.resources:
      return write(job, computed)

  return finish


def _ended(writing: tuple[Job, Any, float]) -> tuple[Job, Any, float]:
  job, future, seconds = writing
  result, more = future.result()
  return job, result, round(seconds + more, 3)


def _timed(function: Callable, *arguments: Any) -> tuple[Any, float]:
  """Returns what a function does, or the fault it raises, and its seconds."""
  start = time.monotonic()
  try:
    result = function(*arguments)
  except FAULTS as error:
    result = error
  return result, time.monotonic() - start
