"""What one update is made from, sample by sample."""

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
  """Of a batch.

  Attributes:
    loss: Weighted mean.
    norms: Norm of its gradient, by part of the network.
  """

  loss: float
  norms: dict[str, float]

  @property
  def norm(self) -> float:
    """Of the whole gradient."""
    return float(np.sqrt(sum(value**2 for value in self.norms.values())))

  @property
  def finite(self) -> bool:
    """Whether loss and gradient are finite."""
    return bool(np.isfinite([self.loss, self.norm]).all())


class Examined(NamedTuple):
  """An update, looked at.

  Attributes:
    batch: Its crops, as host arrays.
    whole: Of the batch, as the update computes it.
    alone: Of each crop as a batch of its own: in the whole, batch normalisation
      spreads what is not finite over all.
  """

  batch: Batch
  whole: Figures
  alone: tuple[Figures, ...]


def examine(
  state: TrainState, pool: Pool | Windows, config: Config, step: int
) -> Examined:
  """Computes an update again, without making it, on one device.

  Args:
    state: The state before it.
    pool: The training images, or what the samples of this update are cut from.
    config: The run's configuration.
    step: The update, counted from 1.
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

  def is_module(part: object) -> bool:  # One with a kernel, or a parameter.
    return not isinstance(part, dict) or 'kernel' in part

  parts, _ = jax.tree_util.tree_flatten_with_path(gradient, is_leaf=is_module)
  return value, {
    jax.tree_util.keystr(path, simple=True, separator='/'): (
      optax.tree.norm(part)
    )
    for path, part in parts
  }
