"""Runs that were never trained, with all that loading a model needs."""

import jax.numpy as jnp
from tiny_networks import random_variables

from cellseg_jax import serialization
from cellseg_jax.training.checkpoints import Checkpoints
from cellseg_jax.training.optimizer import make_optimizer
from cellseg_jax.training.step import TrainState


def save_untrained(workdir, config, metrics=None):
  """Writes the folder of a run; its optimiser has no state."""
  variables = random_variables(config.model)
  zero = jnp.int32(0)
  state = TrainState(
    step=jnp.int32(1),
    skipped=zero,
    skipped_in_a_row=zero,
    params=variables['params'],
    batch_stats=variables.get('batch_stats', {}),
    opt_state=make_optimizer(config.optimizer, 1).init({}),
  )
  with Checkpoints(workdir / 'checkpoints', 'roc_auc') as checkpoints:
    checkpoints.save(state, metrics)
  serialization.save(config, workdir / 'config.json')
