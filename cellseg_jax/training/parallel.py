"""Data parallelism over devices and processes.

This is the only module that uses `pmap`, device meshes and the communication
between processes; the rest of the training sees at most an axis name.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
import contextlib
import functools
import json
import os
import sys
import threading
from typing import Any, NoReturn

import jax
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from cellseg_jax.config import ConfigError

AXIS = 'devices'

# Makes XLA choose GPU operations that are reproducible bit for bit.
DETERMINISTIC = '--xla_gpu_deterministic_ops=true'

# Seconds after which a waiting process says so, and after which it gives up.
_SILENT, _PATIENT = 10, 300

# Largest size in bytes of a text that processes exchange; the rest is cut off.
_LONGEST = 16_384


class Refused(ConfigError):
  """All processes of a run stop, since one of them cannot begin."""


def check_batch_size(batch_size: int) -> int:
  """Returns the number of crops per device.

  Args:
    batch_size: Crops in the global batch.

  Raises:
    ConfigError: The batch cannot be divided equally among the devices of all
      processes; the message names the nearest batch sizes that can.
  """
  devices = jax.device_count()
  if batch_size % devices:
    below = batch_size - batch_size % devices
    near = [n for n in (below, below + devices) if n]
    raise ConfigError(
      f'config.training.batch_size must be a multiple of the {devices} '
      f'devices, found {batch_size}; the nearest are '
      f'{" and ".join(map(str, near))}'
    )
  return batch_size // devices


def check_deterministic(wanted: bool) -> None:
  """Checks that XLA is set up for bit-for-bit reproducibility, if wanted.

  Args:
    wanted: The config's `training.deterministic`.

  Raises:
    ConfigError: It is wanted on a GPU, but `XLA_FLAGS` lacks the flag.
  """
  told = os.environ.get('XLA_FLAGS', '').split()
  if wanted and jax.default_backend() == 'gpu' and DETERMINISTIC not in told:
    raise ConfigError(
      f'config.training.deterministic needs {DETERMINISTIC} in the environment '
      'variable XLA_FLAGS before JAX is first used; run_train.py and cellseg '
      'train set it'
    )


def join(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
) -> None:
  """Connects the processes of a run; must precede any other use of JAX.

  Args:
    coordinator_address: Host and port of the first process. If None, JAX
      derives all three arguments from SLURM, Open MPI or Kubernetes.
    num_processes: Number of processes.
    process_id: Number of this process, counted from 0.

  Raises:
    ConfigError: The processes do not find each other.
  """
  waiting = threading.Timer(
    _SILENT,
    lambda: print(
      'Still waiting for the other processes of this run'
      + (f' at {coordinator_address}' if coordinator_address else '')
      + f'; after {_PATIENT} s this one gives up',
      file=sys.stderr,
      flush=True,
    ),
  )
  waiting.daemon = True
  waiting.start()
  try:
    jax.distributed.initialize(
      coordinator_address,
      num_processes,
      process_id,
      initialization_timeout=_PATIENT,
      # Seconds after which the others stop when one has died.
      heartbeat_timeout_seconds=30,
      # At the end the others wait while the first evaluates and draws.
      shutdown_timeout_seconds=3600,
    )
  except (RuntimeError, ValueError) as error:
    raise ConfigError(
      'the processes of this run do not find each other '
      f'({error}); give all of them the same --coordinator_address and '
      '--num_processes, and each its own --process_id from 0'
    ) from error
  finally:
    waiting.cancel()
  # On CPUs, devices wait only 30 s for each other in their first collective
  # operation, which may be too short while some still compile. Later ones wait
  # longer, so make the first one here.
  meet = jax.pmap(lambda x: lax.psum(x, AXIS), AXIS)
  jax.block_until_ready(meet(np.zeros(jax.local_device_count())))


def leave(code: int) -> NoReturn:
  """Ends this process immediately, without waiting for the others.

  The others are blocked in an update that waits for this process; they end as
  well once it is gone.

  Args:
    code: Exit code.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def is_first() -> bool:
  """Returns whether this process is process 0, the only one that writes."""
  return jax.process_index() == 0


@contextlib.contextmanager
def unanimous(refusals: tuple[type[Exception], ...]) -> Iterator[None]:
  """Lets either all processes continue after the body, or none.

  If the body raises in one process, the others raise `Refused`. With a single
  process, exceptions pass unchanged.

  Args:
    refusals: Exceptions that report bad input. The process that raises one also
      raises it as `Refused`; other exceptions are bugs and pass unchanged.

  Raises:
    Refused: The body raised an exception in some process.
  """
  if jax.process_count() == 1:
    yield
    return
  try:
    yield
  except Exception as error:
    said = str(error) or type(error).__name__
    _from_all(said)
    if isinstance(error, refusals):
      raise Refused(said) from error
    raise
  for number, said in enumerate(_from_all('')):
    if said:
      raise Refused(f'process {number} of this run cannot begin: {said}')


def check_same(values: Mapping[str, Any]) -> None:
  """Checks that all processes would compute the same.

  Args:
    values: Values, by name, that must be equal in all processes.

  Raises:
    Refused: A process differs from process 0. Raised in all processes; names
      the first such process and the values that differ.
  """
  if jax.process_count() == 1:
    return
  first, *others = map(json.loads, _from_all(json.dumps(dict(values))))
  for number, other in enumerate(others, 1):
    differing = [
      f'{name} (there {other.get(name)!r}, in process 0 {value!r})'
      for name, value in first.items()
      if other.get(name) != value
    ]
    if differing:
      raise Refused(
        f'process {number} of this run differs in {", ".join(differing)}; give '
        'all processes the same flags, files and version'
      )


def _from_all(text: str) -> list[str]:
  """Returns the texts of all processes in order; all must call this."""
  encoded = text.encode()[:_LONGEST]
  padded = np.frombuffer(encoded.ljust(_LONGEST, b'\0'), np.uint8)
  return [
    bytes(row).rstrip(b'\0').decode(errors='ignore')
    for row in np.asarray(multihost_utils.process_allgather(padded))
  ]


def from_first(tree: Any) -> Any:
  """Returns the first process's pytree of arrays in every process.

  With several processes, as host arrays; with one, unchanged.
  """
  if jax.process_count() == 1:
    return tree
  return multihost_utils.broadcast_one_to_all(tree)


def largest_of_all() -> Callable[[int], int] | None:
  """Returns a function that finds the largest value over all processes.

  All processes must call that function together.

  Returns:
    A function from this process's int to the largest; None if there is only one
    process.
  """
  if jax.process_count() == 1:
    return None
  return lambda value: int(
    multihost_utils.process_allgather(np.int32(value)).max()
  )


def replicate(tree: Any) -> Any:
  """Copies a whole pytree to every local device.

  With several processes, a plain array that is donated to `pmap` without being
  split fails on the first call; an array replicated like this does not.
  """
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def data_parallel(
  steps: Callable[..., Any], streamed: bool = False
) -> Callable[..., Any]:
  """Maps (state, pool, device) -> (state, losses) over all devices.

  Args:
    steps: The function to map; its state is donated, and its results must be
      equal on all devices.
    streamed: Whether the pool differs between devices, which are then its
      second axis.
  """
  return jax.pmap(
    steps,
    AXIS,
    in_axes=(None, 1 if streamed else None, 0),
    out_axes=None,
    donate_argnums=0,
  )


def local_samples(batch_size: int) -> range:
  """Returns the indices in the global batch of this process's samples."""
  here = check_batch_size(batch_size) * jax.local_device_count()
  first = jax.process_index() * here
  return range(first, first + here)


def spread(tree: Any) -> Any:
  """Distributes the samples of one call over the local devices.

  Args:
    tree: Host arrays (steps, samples, ...), of the samples that `local_samples`
      returns.

  Returns:
    Arrays (steps, devices, samples per device, ...), split over the devices.
  """
  local = jax.local_device_count()
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.device_put(
    jax.tree.map(lambda x: x.reshape(len(x), local, -1, *x.shape[2:]), tree),
    NamedSharding(mesh, PartitionSpec(None, AXIS)),
  )


def ahead(items: Iterable[Any]) -> Iterator[Any]:
  """Yields items, fetching the next item before yielding the current one."""
  items = iter(items)
  current = next(items, None)
  while current is not None:
    following = next(items, None)
    yield current
    current = following


def parallel_steps(
  step: Callable[..., tuple[Any, jax.Array]],
  steps_per_call: int,
  streamed: bool = False,
) -> Callable[..., tuple[Any, jax.Array]]:
  """Compiles a training step for all devices, one or several steps per call.

  Args:
    step: Pure function (state, pool, device, *, axis_name) -> (state, loss).
    steps_per_call: Steps in one compiled call. A single step is not wrapped in
      a loop, since XLA runs convolutions in loops 10 times slower on CPUs.
    streamed: Whether every step on every device has a pool of its own.

  Returns:
    A function (state, pool) -> (state, losses) with one loss per step, float32
    (steps_per_call,). The state must be placed by `replicate` and is donated.
    The pool must be placed by `replicate`, or by `spread` if it is streamed.
  """
  # With one device there is nothing to sum, but XLA would still make a copy.
  axis_name = AXIS if jax.device_count() > 1 else None
  step = functools.partial(step, axis_name=axis_name)

  def steps(state: Any, pool: Any, device: Any) -> tuple[Any, jax.Array]:
    if steps_per_call == 1:
      only = jax.tree.map(lambda x: x[0], pool) if streamed else pool
      state, loss = step(state, only, device)
      return state, loss[None]
    return lax.scan(
      lambda state, of_step: step(state, of_step if streamed else pool, device),
      state,
      pool if streamed else None,
      length=steps_per_call,
    )

  mapped = data_parallel(steps, streamed)
  local = jax.local_device_count()
  devices = jax.process_index() * local + np.arange(local, dtype=np.int32)
  return lambda state, pool: mapped(state, pool, devices)
