"""Connects to a Dask cluster, or starts one on this machine.

Also prepares each worker before its first task. Used by `segment --dask`.
"""

from collections.abc import Callable, Iterator
import contextlib
import logging
import os
import re
import sys
from typing import Any

from cellseg_jax.environment import cores

_INSTALL = "needs the extra [cluster]: pip install 'cellseg_jax[cluster]'"
# Settings applied before local workers start: they log only warnings and
# errors, run without Dask's 10 ms profiler, and keep freed memory instead of
# returning it to the system at once, as Dask's default would.
_ENVIRONMENT = 'distributed.nanny.pre-spawn-environ'
_LOCAL = {
  f'{_ENVIRONMENT}.DASK_LOGGING__DISTRIBUTED': 'warning',
  f'{_ENVIRONMENT}.MALLOC_ARENA_MAX': 1,
  f'{_ENVIRONMENT}.MALLOC_TRIM_THRESHOLD_': -1,
  f'{_ENVIRONMENT}.MALLOC_MMAP_MAX_': 0,
  'distributed.worker.profile.enabled': False,
}
_SECONDS = 30.0  # Timeout for connecting to a scheduler.


class ClusterError(RuntimeError):
  """The cluster cannot be reached, or the connection to it was lost."""


@contextlib.contextmanager
def connected(address: str, prepare: Callable[[], Any]) -> Iterator[Any]:
  """Connects to a cluster for the duration of a `with` block.

  Args:
    address: Address of a scheduler, such as tcp://host:8786. 'local:N' starts N
      single-threaded workers on this machine; 'local' starts one per core.
    prepare: Called once in every worker before its first task, with this
      process's working directory as the current one.

  Yields:
    A connected `distributed.Client`.

  Raises:
    ClusterError: Dask is not installed, the scheduler does not answer, or a
      worker cannot be prepared.
    ValueError: `address` is not a valid address.
  """
  local = re.fullmatch(r'local(?::(\d+))?', address)
  if local and local[1] and int(local[1]) < 1:
    raise ValueError(f'--dask needs at least one worker, found {address}')
  if not local and ':' not in address:
    raise ValueError(
      '--dask takes the address of a scheduler (tcp://host:8786), local or '
      f'local:N, found {address}'
    )
  try:
    import dask
    import distributed
  except ImportError as error:
    raise ClusterError(f'--dask {_INSTALL} ({error})') from error
  _quiet()
  with contextlib.ExitStack() as stack:
    try:
      if local:
        stack.enter_context(dask.config.set(_LOCAL))
        at: Any = stack.enter_context(
          distributed.LocalCluster(
            n_workers=int(local[1] or cores()),
            threads_per_worker=1,
            dashboard_address='127.0.0.1:0',  # Not reachable from outside.
          )
        )
      else:
        at = address
      client = stack.enter_context(distributed.Client(at, timeout=_SECONDS))
    except (OSError, ValueError) as error:
      raise ClusterError(f'no cluster at {address}: {error}') from error
    setup = _setup(distributed, prepare, alone=bool(local))
    try:
      client.register_plugin(setup)
    except (OSError, ImportError) as error:
      raise ClusterError(
        f'a worker of {address} cannot be made ready ({error}); all machines '
        'must have the same version of this package, and see the same folders'
      ) from error
    try:
      yield client
    finally:
      with contextlib.suppress(OSError):  # The cluster may be gone.
        client.unregister_worker_plugin(setup.name)
      _quiet(logging.ERROR)  # Hides warnings about workers slow to stop.


def _setup(distributed: Any, prepare: Callable[[], Any], alone: bool) -> Any:
  """Creates the plugin that prepares every worker, including restarted ones.

  Args:
    distributed: The imported `distributed` package.
    prepare: Called once in every worker before its first task.
    alone: Whether each worker should use a single core, because there is one
      worker per core.
  """
  here = os.getcwd()

  class Setup(distributed.WorkerPlugin):
    name = 'cellseg_jax'

    def setup(self, worker: Any) -> None:
      _quiet()
      self.before = os.getcwd()
      os.chdir(here)
      with _one_core() if alone else contextlib.nullcontext():
        prepare()

    def teardown(self, worker: Any) -> None:
      os.chdir(self.before)

  return Setup()


def _quiet(level: int = logging.WARNING) -> None:
  """Silences Dask's log messages below `level`."""
  logging.getLogger('distributed').setLevel(level)


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
  """Pins the process to one core while JAX starts, on Linux.

  XLA sizes its thread pool by the cores it can use at that time. The pinning
  ends afterwards, because the scheduler of a busy machine places threads better
  than fixed cores do.
  """
  if sys.platform != 'linux':
    yield
    return
  import jax

  usable = os.sched_getaffinity(0)
  _keep_to({min(usable)})
  try:
    yield
    jax.devices()
  finally:
    _keep_to(usable)


def _keep_to(usable: set[int]) -> None:
  """Restricts all threads of this process to the given cores."""
  for thread in os.listdir('/proc/self/task'):
    with contextlib.suppress(ProcessLookupError):  # The thread has ended.
      os.sched_setaffinity(int(thread), usable)
