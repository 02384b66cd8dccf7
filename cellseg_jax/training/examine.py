"""Recomputes the loss and gradients of one update, sample by sample.

`replay` shows them, and `updates` uses them to name the samples whose loss or
gradient is not finite.
"""

import functools
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cellseg_jax.config import Config
from cellseg_jax.datasets.pool import Pool, Windows
from cellseg_jax.training.augment import Batch
from cellseg_jax.training.step import draw, loss_sums, TrainState


class Figures(NamedTuple):
  """Loss and gradient norms of a batch.

  Attributes:
    loss: Weighted mean of the pixels' losses.
    norms: Norm of the loss's gradient for each part of the network, by path.
  """

  loss: float
  norms: dict[str, float]

  @property
  def norm(self) -> float:
    """Norm of the whole gradient."""
    return float(np.sqrt(sum(value**2 for value in self.norms.values())))

  @property
  def finite(self) -> bool:
    """Whether loss and gradient are finite."""
    return bool(np.isfinite([self.loss, self.norm]).all())


class Examined(NamedTuple):
  """The batch of an update, with its loss and gradient norms.

  Attributes:
    batch: The crops, as host arrays.
    whole: Figures of the whole batch, as the update computes them.
    alone: Figures of each crop as a batch of its own. In the whole batch, batch
      normalisation spreads non-finite values over all crops.
  """

  batch: Batch
  whole: Figures
  alone: tuple[Figures, ...]


def examine(
  state: TrainState, pool: Pool | Windows, config: Config, step: int
) -> Examined:
  """Recomputes the loss and gradients of an update on one device.

  The state is not updated.

  Args:
    state: The state before the update.
    pool: The training images, or the windows that the samples of this update
      are cut from.
    config: The run's configuration.
    step: The update, counted from 1.

  Returns:
    The batch and its figures, as an `Examined`.
  """
  samples = np.arange(config.training.batch_size)
  batch = jax.jit(draw, static_argnums=3)(step - 1, samples, pool, config)
  variables = {'params': state.params, 'batch_stats': state.batch_stats}
  ones = (jax.tree.map(lambda x, n=n: x[n : n + 1], batch) for n in samples)
  return Examined(
    jax.device_get(batch),
    _figures(variables, batch, config),
    tuple(_figures(variables, one, config) for one in ones),
  )


def _figures(variables: Any, batch: Batch, config: Config) -> Figures:
  loss, norms = jax.device_get(_loss_and_norms(variables, batch, config))
  return Figures(float(loss), {name: float(v) for name, v in norms.items()})


@functools.partial(jax.jit, static_argnums=2)
def _loss_and_norms(
  variables: Any, batch: Batch, config: Config
) -> tuple[jax.Array, dict[str, jax.Array]]:
  def loss(params: Any) -> jax.Array:
    changed = variables | {'params': params}
    total, (weight, _) = loss_sums(changed, batch, config)
    return total / jnp.maximum(weight, 1e-6)

  value, gradient = jax.value_and_grad(loss)(variables['params'])

  def is_module(part: object) -> bool:  # A module with a kernel, or an array.
    return not isinstance(part, dict) or 'kernel' in part

  parts, _ = jax.tree_util.tree_flatten_with_path(gradient, is_leaf=is_module)
  return value, {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      optax.tree.norm(part)
    )
    for path, part in parts
  }
