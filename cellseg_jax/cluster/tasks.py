"""Runs tasks on a cluster, a limited number at a time, with one retry each.

If a worker dies, Dask itself reruns its tasks on other workers.
"""

import collections
from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
import concurrent.futures
import contextlib
import itertools
import time
from typing import Any, Generic, NamedTuple, TypeVar

from cellseg_jax.cluster.connect import ClusterError
from cellseg_jax.inference.pipeline import FAULTS

# Tasks submitted per cluster thread: one runs, the others wait so that the
# thread is never idle. The limit bounds what the scheduler and this process
# hold, however many tasks there are in all.
_AHEAD = 3
_REFRESH = 5.0  # Seconds between queries of the number of threads.

Item = TypeVar('Item')
Result = TypeVar('Result')


class Attempt(NamedTuple, Generic[Result]):
  """The result of a task, or the exception that it raised.

  Attributes:
    worker: Address of the worker; '' if the task was given up after several
      workers died running it.
    value: The result; None if the task failed.
    fault: The exception, one of `FAULTS`; None if the task succeeded.
  """

  worker: str
  value: Result | None
  fault: Exception | None


class Cluster:
  """Runs tasks on the workers of a Dask client.

  Attributes:
    watch: Called by `each` after every task with the number of tasks done and
      the total number, which is 0 if unknown.
  """

  def __init__(self, client: Any) -> None:
    """Wraps a `distributed.Client`."""
    self._client = client
    self._threads, self._asked = 1, -_REFRESH
    self.watch: Callable[[int, int], None] = lambda done, total: None

  @property
  def threads(self) -> int:
    """Total number of threads of all workers; at least 1."""
    if time.monotonic() - self._asked >= _REFRESH:
      workers = self._workers().values()
      self._threads = max(1, sum(worker['nthreads'] for worker in workers))
      self._asked = time.monotonic()
    return self._threads

  def each(
    self, compute: Callable[[Item], Result], items: Iterable[Item]
  ) -> Iterator[Result]:
    """Computes every item and yields the results in order; a `blocks.Each`.

    Args:
      compute: The function to call; sent to each worker once. Must be
        idempotent, because a failed task is retried.
      items: The arguments, one per call; sent with the tasks.

    Raises:
      ClusterError: The connection to the scheduler was lost.
      ValueError: `compute` raised it for an item on both attempts; the same
        applies to all of `FAULTS`.
      OSError: Several workers died while running a task.
    """
    under_way: collections.deque[tuple[Item, Any]] = collections.deque()
    held, rest = self._hold(compute), iter(items)
    total = len(items) if isinstance(items, Sized) else 0
    done = itertools.count(1)
    while True:
      # Results are gathered for half of the tasks at a time, because every
      # message costs its recipients milliseconds.
      room = max(_AHEAD * self.threads - len(under_way), 0)
      new = list(itertools.islice(rest, room))
      futures = self._client.map(_attempt, [held] * len(new), new, pure=False)
      under_way.extend(zip(new, futures, strict=True))
      if not under_way:
        return
      half = [under_way.popleft() for _ in range(-(-len(under_way) // 2))]
      attempts = self._results([future for _, future in half])
      for (item, future), attempt in zip(half, attempts, strict=True):
        future.release()
        if attempt.fault is not None and attempt.worker:
          attempt = _result(self._submit(held, item, attempt.worker))
        self.watch(next(done), total)
        if attempt.fault is not None:
          raise attempt.fault
        value: Any = attempt.value
        yield value

  def as_ended(
    self,
    compute: Callable[[Item], Result],
    items: Iterable[Item],
    failed: Callable[[Result], bool],
  ) -> Iterator[tuple[Item, Attempt[Result]]]:
    """Computes every item and yields the results as they complete.

    Args:
      compute: The function to call; sent to each worker once. Must be
        idempotent, because a failed task is retried.
      items: The arguments, one per call; sent with the tasks.
      failed: Whether a result counts as a failure, to be retried once on
        another worker.

    Yields:
      Each item and its last attempt.

    Raises:
      ClusterError: The connection to the scheduler was lost.
    """
    import distributed

    under_way: dict[Any, tuple[Item, bool]] = {}
    ended = distributed.as_completed()
    held, rest = self._hold(compute), iter(items)

    def submit(item: Item, without: str = '') -> None:
      future = self._submit(held, item, without)
      under_way[future] = item, bool(without)
      ended.add(future)

    for item in itertools.islice(rest, _AHEAD * self.threads):
      submit(item)
    for future in ended:
      item, again = under_way.pop(future)
      attempt = _result(future)
      future.release()
      value: Any = attempt.value
      failure = attempt.fault is not None or failed(value)
      if failure and attempt.worker and not again:
        submit(item, attempt.worker)
        continue
      yield item, attempt
      room = _AHEAD * self.threads - len(under_way)
      for item in itertools.islice(rest, max(room, 0)):
        submit(item)

  def _workers(self) -> dict[str, dict[str, Any]]:
    return self._client.scheduler_info(-1)['workers']

  def _hold(self, compute: Callable[..., Any]) -> Any:
    """Sends `compute` to the cluster once; Dask restores a lost copy."""
    return self._client.submit(_same, compute, pure=False)

  def _submit(self, held: Any, item: Any, without: str = '') -> Any:
    """Submits a task; avoids the worker `without` if there is another."""
    where: dict[str, Any] = {}
    if without:
      others = [worker for worker in self._workers() if worker != without]
      if others:
        where = {'workers': others, 'allow_other_workers': True}
    return self._client.submit(_attempt, held, item, pure=False, **where)

  def _results(self, futures: Sequence[Any]) -> list[Attempt]:
    """Waits for tasks and returns their attempts, in order.

    Raises:
      ClusterError: The connection to the scheduler was lost.
    """
    import distributed

    try:
      with _connection():
        return self._client.gather(futures)
    except distributed.KilledWorker:
      return list(map(_result, futures))


def _same(compute: Any) -> Any:
  return compute


def _attempt(compute: Callable[[Any], Any], item: Any) -> Attempt:
  """Calls `compute` in a worker and captures any of `FAULTS`."""
  import distributed

  address = distributed.get_worker().address
  try:
    return Attempt(address, compute(item), None)
  except FAULTS as fault:
    return Attempt(address, None, fault)


def _result(future: Any) -> Attempt:
  """Waits for a task; a task that killed its workers becomes an `OSError`.

  Raises:
    ClusterError: The connection to the scheduler was lost.
  """
  import distributed

  try:
    with _connection():
      return future.result()
  except distributed.KilledWorker as error:
    fault = OSError(
      'the workers that were at it died, as they do when memory is short: '
      f'{str(error).partition(". ")[0]}'
    )
    return Attempt('', None, fault)


@contextlib.contextmanager
def _connection() -> Iterator[None]:
  """Translates Dask's exceptions for a lost scheduler.

  Raises:
    ClusterError: The connection to the scheduler was lost.
  """
  import distributed

  try:
    yield
  except (
    concurrent.futures.CancelledError,
    distributed.comm.CommClosedError,
  ) as error:
    raise ClusterError(
      'the connection to the cluster was lost; the same command goes on where '
      'this ended'
    ) from error
