"""Tasks on the workers of a cluster: few at a time, each tried twice.

A worker that dies is Dask's to deal with: what it was at is done by another.
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

# Tasks for each thread of the cluster that are under way: those that wait for
# the first of them keep its worker busy. Neither the scheduler nor this process
# holds more, however many there are.
_AHEAD = 3
_REFRESH = 5.0  # Seconds after which to ask how many threads there are.

Item = TypeVar('Item')
Result = TypeVar('Result')


class Attempt(NamedTuple, Generic[Result]):
  """What became of a task.

  Attributes:
    worker: The address of the worker; '' where several died over it.
    value: What was computed; None where there is a fault.
    fault: One of `FAULTS`.
  """

  worker: str
  value: Result | None
  fault: Exception | None


class Cluster:
  """Where tasks are run.

  Attributes:
    watch: Called with the number of tasks that are done and of all, 0 where
      that is not known.
  """

  def __init__(self, client: Any) -> None:
    """Takes a `distributed.Client`."""
    self._client = client
    self._threads, self._asked = 1, -_REFRESH
    self.watch: Callable[[int, int], None] = lambda done, total: None

  @property
  def threads(self) -> int:
    """How many threads all workers have; at least 1."""
    if time.monotonic() - self._asked >= _REFRESH:
      workers = self._workers().values()
      self._threads = max(1, sum(worker['nthreads'] for worker in workers))
      self._asked = time.monotonic()
    return self._threads

  def each(
    self, compute: Callable[[Item], Result], items: Iterable[Item]
  ) -> Iterator[Result]:
    """Computes every item, and gives the results in order; a `blocks.Each`.

    Args:
      compute: Sent to every worker once. Done again, it does the same.
      items: What to call it with; sent with the tasks.

    Raises:
      ClusterError: The scheduler is gone.
      ValueError: As `compute`, twice; so do all of `FAULTS`.
    """
    under_way: collections.deque[tuple[Item, Any]] = collections.deque()
    held, rest = self._hold(compute), iter(items)
    total = len(items) if isinstance(items, Sized) else 0
    done = itertools.count(1)
    while True:
      # Half of them at a time: each message costs all who get it milliseconds.
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
    """Computes every item, and gives the results as they come.

    Args:
      compute: As for `each`.
      items: As for `each`.
      failed: Whether a result is one to be tried once more, elsewhere.

    Raises:
      ClusterError: The scheduler is gone.
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
    """Sends what tasks have in common; a worker that lost it gets it again."""
    return self._client.submit(_same, compute, pure=False)

  def _submit(self, held: Any, item: Any, without: str = '') -> Any:
    """Begins a task, on another worker than one where there is another."""
    where: dict[str, Any] = {}
    if without:
      others = [worker for worker in self._workers() if worker != without]
      if others:
        where = {'workers': others, 'allow_other_workers': True}
    return self._client.submit(_attempt, held, item, pure=False, **where)

  def _results(self, futures: Sequence[Any]) -> list[Attempt]:
    """Waits for tasks, as `_result` for each."""
    import distributed

    try:
      with _connection():
        return self._client.gather(futures)
    except distributed.KilledWorker:
      return list(map(_result, futures))


def _same(compute: Any) -> Any:
  return compute


def _attempt(compute: Callable[[Any], Any], item: Any) -> Attempt:
  """Runs in a worker."""
  import distributed

  address = distributed.get_worker().address
  try:
    return Attempt(address, compute(item), None)
  except FAULTS as fault:
    return Attempt(address, None, fault)


def _result(future: Any) -> Attempt:
  """Waits for a task.

  Raises:
    ClusterError: The scheduler is gone.
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
  """Tells what is raised where the scheduler is gone.

  Raises:
    ClusterError: It is.
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
