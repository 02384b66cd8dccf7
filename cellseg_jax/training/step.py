"""One training update: pure, and ignorant of devices but for an axis name."""

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
  """All that an update changes.

  Attributes:
    step: int32 (), updates made.
    params: The network's parameters.
    batch_stats: Its running batch statistics; empty without batch
      normalisation.
    opt_state: The optimiser's state.
    skipped: int32 (), updates that were not made since their loss or gradient
      was not finite.
    skipped_in_a_row: int32 (), how many of the last updates these were.
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
  """Returns the state before the first update of given variables."""
  # Arrays of their own: a buffer that is donated must not be there twice.
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
  """Returns the variables that training changes, as `fcn.init` does."""
  variables = {'params': state.params}
  if state.batch_stats:
    variables['batch_stats'] = state.batch_stats
  return variables


def variables_to_use(state: TrainState) -> fcn.Variables:
  """Returns the variables to evaluate and to save: the average, if any."""
  return state.average or variables_of(state)


def averaged(
  average: fcn.Variables, variables: fcn.Variables, step: jax.Array, kept: float
) -> fcn.Variables:
  """Moves a running average towards new variables.

  Args:
    average: The average before.
    variables: The new variables.
    step: int32 (), updates made; the first ones keep less, so that the initial
      values are soon forgotten.
    kept: Share of the average that is kept, in the long run.
  """
  share = jax.numpy.minimum(kept, step / (step + 10))
  return jax.tree.map(
    lambda a, v: share * a + (1 - share) * v, average, variables
  )


def sample_keys(
  seed: jax.Array | int, step: jax.Array, samples: jax.Array
) -> jax.Array:
  """Returns the key of each training sample, by its address alone.

  Args:
    seed: The run's seed; uint32 () if it is an array.
    step: int32 (), the update.
    samples: int32 (N,), places in the global batch.

  Returns:
    Keys (N,). Any number of devices, and a resumed run, see the same samples.
  """
  # 0 is the initial weights' stream, 1 the samples'.
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
    step: int32 (), the update.
    samples: int32 (N,), places in the global batch.
    pool: The training images, or the parts of them that these samples are cut
      from.
    config: Seed, augmentation and crop size.
    seed: uint32 (), in place of the config's.
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
  """Returns a batch's sum of losses, of weights, and the running statistics."""
  logits, batch_stats = fcn.apply_train(
    config.model, variables, batch.images, axis_name
  )
  total, weight = weighted_cross_entropy(logits, batch.targets, batch.weights)
  return total, (weight, batch_stats)


def summed(tree: Any, axis_name: str) -> Any:
  """Adds a pytree up over devices in one all-reduce.

  Of one vector: left to XLA, the gradients of a network with batch
  normalisation went in three, some of them together with statistics.
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
  """Makes one update from freshly drawn crops: `draw`, then `update`.

  Args:
    state: The state before.
    pool: The training images, or the parts of them that the samples of this
      device are cut from.
    device: int32 (), this device's place among all devices.
    seed: uint32 (), in place of the config's, where one program makes updates
      of several runs.
    config: Seed, augmentation, crop size and network.
    optimizer: As `make_optimizer` returns.
    batch_size: Crops on this device.
    axis_name: The mapped axis of devices, or None for one device.

  Returns:
    The state after, and the loss, float32 ().
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

  The gradient is that of one weighted mean over the global batch: sums of
  gradients and of weights are added over devices before they are divided. Where
  the loss or the gradient is not finite, only the counts change.

  Args:
    state: The state before.
    batch: The crops of this device.
    config: The network, and the share of the running average that is kept.
    optimizer: As `make_optimizer` returns.
    axis_name: The mapped axis of devices, or None for one device.

  Returns:
    The state after, and the loss, float32 ().
  """

  def loss_sum(params: Any) -> Any:
    variables = {'params': params, 'batch_stats': state.batch_stats}
    return loss_sums(variables, batch, config, axis_name)

  (total, (weight, batch_stats)), grads = jax.value_and_grad(
    loss_sum, has_aux=True
  )(state.params)
  if axis_name:
    total, weight, grads = summed((total, weight, grads), axis_name)
  # Crops without one labelled pixel weigh nothing and teach nothing.
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
