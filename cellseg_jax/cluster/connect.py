"""A connection to a Dask cluster, on this machine or on others."""

from collections.abc import Callable, Iterator
import contextlib
import logging
import os
import re
import sys
from typing import Any

from cellseg_jax.environment import cores

_INSTALL = "needs the extra [cluster]: pip install 'cellseg_jax[cluster]'"
# Of workers on this machine, before they start: they tell of faults alone, do
# not look every 10 ms at what they are doing, and keep memory that they free
# (as `cli.process` does; Dask's own setting gives it back at once).
_ENVIRONMENT = 'distributed.nanny.pre-spawn-environ'
_LOCAL = {
  f'{_ENVIRONMENT}.DASK_LOGGING__DISTRIBUTED': 'warning',
  f'{_ENVIRONMENT}.MALLOC_ARENA_MAX': 1,
  f'{_ENVIRONMENT}.MALLOC_TRIM_THRESHOLD_': -1,
  f'{_ENVIRONMENT}.MALLOC_MMAP_MAX_': 0,
  'distributed.worker.profile.enabled': False,
}
_SECONDS = 30.0  # To wait for a scheduler that does not answer.


class ClusterError(RuntimeError):
  """There is no cluster, or no longer."""


@contextlib.contextmanager
def connected(address: str, prepare: Callable[[], Any]) -> Iterator[Any]:
  """Connects to a cluster for as long as it is used.

  Args:
    address: Of a scheduler, such as tcp://host:8786; 'local:N' starts N workers
      on this machine, of one core each, and 'local' as many as it has cores.
    prepare: Called once in every worker, before its first task, in the folder
      that this process works in.

  Yields:
    A `distributed.Client`.

  Raises:
    ClusterError: Dask is not installed, or the scheduler does not answer.
    ValueError: The address is none.
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
            dashboard_address='127.0.0.1:0',  # For this machine alone.
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
      with contextlib.suppress(OSError):  # Perhaps the cluster is gone.
        client.unregister_worker_plugin(setup.name)
      _quiet(logging.ERROR)  # That workers are slow to end concerns nobody.


def _setup(distributed: Any, prepare: Callable[[], Any], alone: bool) -> Any:
  """Makes the plugin that readies a worker, one that is started anew, too.

  Args:
    distributed: The package.
    prepare: As for `connected`.
    alone: Whether a worker is to use one core, since there is one for each.
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
  """Silences what Dask tells of every connection."""
  logging.getLogger('distributed').setLevel(level)


@contextlib.contextmanager
def _one_core() -> Iterator[None]:
  """Makes JAX begin on one core, by which XLA chooses its number of threads.

  Not for longer: where others compute too, the system chooses cores better.
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
  for thread in os.listdir('/proc/self/task'):
    with contextlib.suppress(ProcessLookupError):  # It ended meanwhile.
      os.sched_setaffinity(int(thread), usable)
