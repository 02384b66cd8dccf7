"""Data parallelism: the only module that knows `pmap` and axis names."""

from collections.abc import Callable, Iterator, Mapping
import contextlib
import functools
import json
import os
import sys
from typing import Any, NoReturn

import jax
from jax import lax
from jax.experimental import multihost_utils
from jax.sharding import Mesh, NamedSharding, PartitionSpec
import numpy as np

from cellseg_jax.config import ConfigError

AXIS = 'devices'

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


def join(
  coordinator_address: str | None,
  num_processes: int | None,
  process_id: int | None,
  patience: int = 300,
) -> None:
  """Joins the processes of a run; before any other use of JAX.

  Args:
    coordinator_address: Host and port of the first process; None finds all
      three from SLURM, Open MPI or Kubernetes.
    num_processes: How many there are.
    process_id: Which this is, from 0.
    patience: Seconds to wait for the others.

  Raises:
    ConfigError: They do not find each other.
  """
  try:
    jax.distributed.initialize(
      coordinator_address,
      num_processes,
      process_id,
      initialization_timeout=patience,
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
def unanimous() -> Iterator[None]:
  """Lets all processes go on, or none: what one raises, all are told.

  Raises:
    Refused: Another process raised an error, or this one of several did.
  """
  if jax.process_count() == 1:
    yield
    return
  try:
    yield
  except Exception as error:
    said = str(error) or type(error).__name__
    _from_all(said)
    raise Refused(said) from error
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


def data_parallel(steps: Callable[..., Any]) -> Callable[..., Any]:
  """Maps (state, pool, device) -> (state, losses) over all devices."""
  return jax.pmap(
    steps, AXIS, in_axes=(None, None, 0), out_axes=None, donate_argnums=0
  )


def parallel_steps(
  step: Callable[..., tuple[Any, jax.Array]], steps_per_call: int
) -> Callable[..., tuple[Any, jax.Array]]:
  """Runs a training step on all devices, one or several steps a call.

  Args:
    step: (state, pool, device, *, axis_name) -> (state, loss); pure.
    steps_per_call: Steps in one compiled call. One step is not wrapped in a
      loop: XLA runs convolutions in loops 10 times slower on CPUs.

  Returns:
    (state, pool) -> (state, losses), losses float32 (steps_per_call,). State
    and pool are as `replicate` returns; the state is donated.
  """
  step = functools.partial(step, axis_name=AXIS)

  def steps(state: Any, pool: Any, device: Any) -> tuple[Any, jax.Array]:
    if steps_per_call == 1:
      state, loss = step(state, pool, device)
      return state, loss[None]
    return lax.scan(
      lambda state, _: step(state, pool, device), state, length=steps_per_call
    )

  mapped = data_parallel(steps)
  local = jax.local_device_count()
  devices = jax.process_index() * local + np.arange(local, dtype=np.int32)
  return lambda state, pool: mapped(state, pool, devices)
