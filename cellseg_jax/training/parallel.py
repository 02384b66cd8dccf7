"""Data parallelism: the only module that knows `pmap` and axis names."""

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

# Makes XLA choose GPU operations that give the same bits every time.
DETERMINISTIC = '--xla_gpu_deterministic_ops=true'

# Seconds that processes wait for each other, first in silence.
_SILENT, _PATIENT = 10, 300

# Bytes of the longest text that processes tell each other.
_LONGEST = 16_384


class Refused(ConfigError):
  """All processes of a run end, since one of them cannot begin."""


def check_batch_size(batch_size: int) -> int:
  """Returns the crops a device, or says which batch sizes would do.

  Raises:
    ConfigError: All devices of all processes cannot share the batch equally.
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
  """Refuses to promise the same bits where XLA was not told to give them.

  Raises:
    ConfigError: It is wanted, on a GPU, and `XLA_FLAGS` lacks the flag.
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
  """Joins the processes of a run; before any other use of JAX.

  Args:
    coordinator_address: Host and port of the first process; None finds all
      three from SLURM, Open MPI or Kubernetes.
    num_processes: How many there are.
    process_id: Which this is, from 0.

  Raises:
    ConfigError: They do not find each other.
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
      # Seconds after which the others end when one is gone.
      heartbeat_timeout_seconds=30,
      # The others wait for the first, which evaluates and draws at the end.
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
  # On CPUs devices that meet for the first time wait 30 s for each other, not
  # always enough where some still compile; those that have met wait longer.
  meet = jax.pmap(lambda x: lax.psum(x, AXIS), AXIS)
  jax.block_until_ready(meet(np.zeros(jax.local_device_count())))


def leave(code: int) -> NoReturn:
  """Ends this process at once, where it cannot wait for the others to end.

  These wait for it in an update; when it is gone they end as well.
  """
  sys.stdout.flush()
  sys.stderr.flush()
  os._exit(code)


def is_first() -> bool:
  """Whether this process is the one that writes."""
  return jax.process_index() == 0


@contextlib.contextmanager
def unanimous(refusals: tuple[type[Exception], ...]) -> Iterator[None]:
  """Lets all processes go on, or none: where one raises, all raise `Refused`.

  Args:
    refusals: Errors of bad input, which this process raises as `Refused`, too;
      others are faults of the program and stay what they are.

  Raises:
    Refused: A process raised an error.
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
  """Refuses processes that would not compute the same.

  Args:
    values: What must be equal in all of them, by name.

  Raises:
    Refused: Names the first process that differs from process 0, and in what;
      in all of them.
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
  """Returns the texts of all processes, which must all call this."""
  encoded = text.encode()[:_LONGEST]
  padded = np.frombuffer(encoded.ljust(_LONGEST, b'\0'), np.uint8)
  return [
    bytes(row).rstrip(b'\0').decode(errors='ignore')
    for row in np.asarray(multihost_utils.process_allgather(padded))
  ]


def from_first(tree: Any) -> Any:
  """Returns the first process's arrays, on the host of every process."""
  if jax.process_count() == 1:
    return tree
  return multihost_utils.broadcast_one_to_all(tree)


def largest_of_all() -> Callable[[int], int] | None:
  """Returns what tells the largest of all processes' values; None if alone."""
  if jax.process_count() == 1:
    return None
  return lambda value: int(
    multihost_utils.process_allgather(np.int32(value)).max()
  )


def replicate(tree: Any) -> Any:
  """Copies a pytree to all local devices, to be passed unsplit.

  With several processes a plain array that is passed unsplit and donated fails
  on the first call; an array placed so does not.
  """
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.device_put(tree, NamedSharding(mesh, PartitionSpec()))


def data_parallel(
  steps: Callable[..., Any], streamed: bool = False
) -> Callable[..., Any]:
  """Maps (state, pool, device) -> (state, losses) over all devices.

  A pool that is streamed is another for each of them.
  """
  return jax.pmap(
    steps,
    AXIS,
    in_axes=(None, 1 if streamed else None, 0),
    out_axes=None,
    donate_argnums=0,
  )


def local_samples(batch_size: int) -> range:
  """Returns the places in the global batch that this process computes."""
  here = check_batch_size(batch_size) * jax.local_device_count()
  first = jax.process_index() * here
  return range(first, first + here)


def spread(tree: Any) -> Any:
  """Copies what each local device needs of a call to it.

  Args:
    tree: Host arrays (steps, samples, ...), of `local_samples`.

  Returns:
    Arrays (steps, devices, samples of each, ...).
  """
  local = jax.local_device_count()
  mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
  return jax.device_put(
    jax.tree.map(lambda x: x.reshape(len(x), local, -1, *x.shape[2:]), tree),
    NamedSharding(mesh, PartitionSpec(None, AXIS)),
  )


def ahead(items: Iterable[Any]) -> Iterator[Any]:
  """Yields items, each when the next one has been asked for."""
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
  """Runs a training step on all devices, one or several steps a call.

  Args:
    step: (state, pool, device, *, axis_name) -> (state, loss); pure.
    steps_per_call: Steps in one compiled call. One step is not wrapped in a
      loop: XLA runs convolutions in loops 10 times slower on CPUs.
    streamed: Whether every step of every device has a pool of its own.

  Returns:
    (state, pool) -> (state, losses), losses float32 (steps_per_call,). The
    state is as `replicate` returns, the pool too, or as `spread` returns if
    streamed; the state is donated.
  """
  # Nothing is added up over one device: XLA would copy it all the same.
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
