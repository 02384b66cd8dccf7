"""A trained model from the folder of its run."""

import pathlib

import jax.numpy as jnp

from cellseg_jax import serialization
from cellseg_jax.inference.predict import Model
from cellseg_jax.training.checkpoints import Checkpoints


def load_model(workdir: str | pathlib.Path) -> Model:
  """Loads the best model of a training run; runs no code from it.

  Args:
    workdir: The folder that training wrote: `config.json`, `checkpoints/`.

  Returns:
    The model of the best checkpoint by the run's validation metric, or of the
    last one where none was evaluated.

  Raises:
    FileNotFoundError: The folder, its config or its checkpoints are absent.
    ConfigError: The config is not one of this version.
    CheckpointError: A checkpoint does not fit its config.
  """
  return load_best(workdir)[0]


def load_best(workdir: str | pathlib.Path) -> tuple[Model, int]:
  """Loads as `load_model` does; also returns the step of the model."""
  workdir = pathlib.Path(workdir)
  config_path = workdir / 'config.json'
  folder = workdir / 'checkpoints'
  for path in (config_path, folder):
    if not path.exists():
      raise FileNotFoundError(
        f'{workdir}: no trained model here (there is no {path.name}); give the '
        'folder that training wrote, its --workdir'
      )
  config = serialization.load(config_path)
  metric = config.training.best_metric
  with Checkpoints(folder, metric) as checkpoints:
    step = checkpoints.best_step()
    if step is None:
      raise FileNotFoundError(
        f'{workdir}: training has not saved a checkpoint yet'
      )
    variables = checkpoints.restore_variables(step, config)
    metrics = checkpoints.metrics(step)
  # A checkpoint between evaluations has no threshold of its own.
  threshold = config.decoding.threshold or metrics.get('threshold', 0.5)
  return Model(variables, jnp.float32(threshold), config), step
