"""Runs that were never trained, with all that loading a model needs."""

import jax.numpy as jnp
import numpy as np
from tiny_networks import random_variables

from cellseg_jax import serialization
from cellseg_jax.inference.predict import Model, predict_maps
from cellseg_jax.serialization import replace
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


def save_untrained_that_finds(workdir, config, image):
  """Writes such a folder, of a run to which half of an image is cell."""
  model = Model(random_variables(config.model), {}, config)
  foreground = predict_maps(model, image)['foreground']
  median = float(f'{np.median(foreground):.4g}')
  save_untrained(workdir, replace(config, decoding={'threshold': median}))
