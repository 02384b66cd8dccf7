"""One training update, as pure functions of a `TrainState` and a batch.

The only trace of devices here is the axis name to sum over; `parallel` compiles
the update for all of them.
"""

import dataclasses
from typing import Any

from flax import struct
import jax
from jax import lax
from jax.flatten_util import ravel_pytree
import optax

from cellseg_jax.config import Config
from cellseg_jax.datasets.pool import Pool, Windows
from cellseg_jax.model import fcn
from cellseg_jax.training.augment import augment, Batch
from cellseg_jax.training.losses import weighted_cross_entropy


@struct.dataclass
class TrainState:
  """Everything that an update changes.

  Attributes:
    step: Number of updates made, skipped ones included, int32 ().
    params: The network's parameters.
    batch_stats: The network's running batch statistics; empty without batch
      normalisation.
    opt_state: The optimiser's state.
    skipped: Number of updates that were skipped because their loss or gradient
      was not finite, int32 ().
    skipped_in_a_row: How many of the most recent updates were skipped without
      a successful one in between, int32 ().
    average: Running average of the variables; empty unless the optimiser's
      config asks for it.
  """

  step: jax.Array
  skipped: jax.Array
  skipped_in_a_row: jax.Array
  params: fcn.Variables
  batch_stats: fcn.Variables
  opt_state: optax.OptState
  average: fcn.Variables = struct.field(default_factory=dict)


def init_state(
  config: Config, optimizer: optax.GradientTransformation
) -> TrainState:
  """Draws the initial state from the config's seed."""
  key = jax.random.fold_in(jax.random.key(config.training.seed), 0)
  return state_from(
    fcn.init(key, config.model, config.data.channels), config, optimizer
  )


def state_from(
  variables: fcn.Variables,
  config: Config,
  optimizer: optax.GradientTransformation,
) -> TrainState:
  """Returns the state before the first update, with the given variables.

  Args:
    variables: The network's variables.
    config: Says whether a running average is kept.
    optimizer: The optimiser, whose state is initialised.
  """
  # Separate arrays, since a donated buffer must not occur twice.
  step, skipped, in_a_row = (jax.numpy.zeros((), 'int32') for _ in range(3))
  return TrainState(
    step=step,
    skipped=skipped,
    skipped_in_a_row=in_a_row,
    params=variables['params'],
    batch_stats=variables.get('batch_stats', {}),
    opt_state=optimizer.init(variables['params']),
    average=jax.tree.map(jax.numpy.array, dict(variables))
    if config.optimizer.average
    else {},
  )


def variables_of(state: TrainState) -> fcn.Variables:
  """Returns the network's current variables, structured as by `fcn.init`."""
  variables = {'params': state.params}
  if state.batch_stats:
    variables['batch_stats'] = state.batch_stats
  return variables


def variables_to_use(state: TrainState) -> fcn.Variables:
  """Returns the variables to evaluate and save: the average, if kept."""
  return state.average or variables_of(state)


def averaged(
  average: fcn.Variables, variables: fcn.Variables, step: jax.Array, kept: float
) -> fcn.Variables:
  """Moves a running average towards new variables.

  Args:
    average: The previous average.
    variables: The new variables.
    step: Number of updates made, int32 (). The first updates keep less of the
      average, so that the initial values are soon forgotten.
    kept: Share of the average that is kept in the long run.

  Returns:
    The new average.
  """
  share = jax.numpy.minimum(kept, step / (step + 10))
  return jax.tree.map(
    lambda a, v: share * a + (1 - share) * v, average, variables
  )


def sample_keys(
  seed: jax.Array | int, step: jax.Array, samples: jax.Array
) -> jax.Array:
  """Returns the random key of each training sample.

  A key depends only on seed, step and index in the global batch, so the samples
  are the same on any number of devices and in a resumed run.

  Args:
    seed: The run's seed; uint32 () if it is an array.
    step: The update, counted from 0, int32 ().
    samples: Indices in the global batch, int32 (N,).

  Returns:
    JAX random keys (N,).
  """
  # Stream 0 draws the initial weights, stream 1 the samples.
  run = jax.random.fold_in(jax.random.key(seed), 1)
  at_step = jax.random.fold_in(run, step)
  return jax.vmap(lambda sample: jax.random.fold_in(at_step, sample))(samples)


def draw(
  step: jax.Array,
  samples: jax.Array,
  pool: Pool | Windows,
  config: Config,
  seed: jax.Array | None = None,
) -> Batch:
  """Draws the crops of an update.

  Args:
    step: The update, counted from 0, int32 ().
    samples: Indices in the global batch, int32 (N,).
    pool: The training images, or the windows of them that these samples are cut
      from.
    config: Seed, augmentation and crop size.
    seed: Replaces the config's seed, uint32 ().

  Returns:
    A `Batch` of N crops.
  """
  own = config.training.seed if seed is None else seed
  keys = sample_keys(own, step, samples)
  return augment(keys, pool, config.augmentation, config.training.crop_size)


def loss_sums(
  variables: fcn.Variables,
  batch: Batch,
  config: Config,
  axis_name: str | None = None,
) -> tuple[jax.Array, tuple[jax.Array, fcn.Variables]]:
  """Computes the summed loss of a batch.

  Args:
    variables: The network's variables.
    batch: The crops of this device.
    config: The network.
    axis_name: The mapped axis of devices, or None for one device.

  Returns:
    The weighted sum of the losses; and, as a pair, the sum of the weights and
    the updated running batch statistics.
  """
  logits, batch_stats = fcn.apply_train(
    config.model, variables, batch.images, axis_name
  )
  total, weight = weighted_cross_entropy(logits, batch.targets, batch.weights)
  return total, (weight, batch_stats)


def summed(tree: Any, axis_name: str) -> Any:
  """Sums a pytree over devices in one all-reduce.

  The leaves are concatenated to one vector. Left to XLA, the gradients of a
  network with batch normalisation took three all-reduces, some of them combined
  with those of the statistics.
  """
  flat, restore = ravel_pytree(tree)
  return restore(lax.psum(flat, axis_name))


def train_step(
  state: TrainState,
  pool: Pool | Windows,
  device: jax.Array | int = 0,
  seed: jax.Array | None = None,
  *,
  config: Config,
  optimizer: optax.GradientTransformation,
  batch_size: int,
  axis_name: str | None = None,
) -> tuple[TrainState, jax.Array]:
  """Draws crops and makes one update from them: `draw`, then `update`.

  Args:
    state: The state before the update.
    pool: The training images, or the windows of them that the samples of this
      device are cut from.
    device: Index of this device among all devices, int32 ().
    seed: Replaces the config's seed, uint32 (), when one program updates
      several runs.
    config: Seed, augmentation, crop size and network.
    optimizer: The optimiser, as `make_optimizer` returns it.
    batch_size: Number of crops on this device.
    axis_name: The mapped axis of devices, or None for one device.

  Returns:
    The state after the update, and the loss, float32 ().
  """
  samples = device * batch_size + jax.numpy.arange(batch_size)
  batch = draw(state.step, samples, pool, config, seed)
  return update(
    state, batch, config=config, optimizer=optimizer, axis_name=axis_name
  )


def update(
  state: TrainState,
  batch: Batch,
  *,
  config: Config,
  optimizer: optax.GradientTransformation,
  axis_name: str | None = None,
) -> tuple[TrainState, jax.Array]:
  """Makes one update from a batch.

  The gradient is that of one weighted mean over the global batch: gradients and
  weights are summed over the devices before the division. If the loss or the
  gradient is not finite, the update is skipped: only the counters change.

  Args:
    state: The state before the update.
    batch: The crops of this device.
    config: The network, and the share of the running average that is kept.
    optimizer: The optimiser, as `make_optimizer` returns it.
    axis_name: The mapped axis of devices, or None for one device.

  Returns:
    The state after the update, and the loss of the global batch, float32 ().
  """

  def loss_sum(params: Any) -> Any:
    variables = {'params': params, 'batch_stats': state.batch_stats}
    return loss_sums(variables, batch, config, axis_name)

  (total, (weight, batch_stats)), grads = jax.value_and_grad(
    loss_sum, has_aux=True
  )(state.params)
  if axis_name:
    total, weight, grads = summed((total, weight, grads), axis_name)
  # A batch without a labelled pixel has weight 0, and then gradient 0.
  weight = jax.numpy.maximum(weight, 1e-6)
  grads = jax.tree.map(lambda g: g / weight, grads)
  updates, opt_state = optimizer.update(grads, state.opt_state, state.params)
  updated = dataclasses.replace(
    state,
    params=optax.apply_updates(state.params, updates),
    batch_stats=batch_stats,
    opt_state=opt_state,
  )
  if state.average:
    average = averaged(
      state.average, variables_of(updated), state.step, config.optimizer.average
    )
    updated = dataclasses.replace(updated, average=average)
  finite = jax.numpy.isfinite(total) & jax.numpy.isfinite(
    optax.tree.norm(grads)
  )
  kept = jax.tree.map(
    lambda new, old: jax.numpy.where(finite, new, old), updated, state
  )
  return dataclasses.replace(
    kept,
    step=state.step + 1,
    skipped=state.skipped + ~finite,
    skipped_in_a_row=jax.numpy.where(finite, 0, state.skipped_in_a_row + 1),
  ), total / weight
