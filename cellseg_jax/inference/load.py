"""Loads a trained model, or only its variables, from the folder of a run."""

import pathlib

import jax.numpy as jnp

from cellseg_jax import serialization
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.inference.decode import default_settings
from cellseg_jax.inference.predict import Model
from cellseg_jax.model import fcn
from cellseg_jax.training.checkpoints import Checkpoints
from cellseg_jax.validation import check_values


def load_model(workdir: str | pathlib.Path) -> Model:
  """Loads the best model of a training run, without executing code from it.

  Args:
    workdir: The folder that training wrote, with `config.json` and
      `checkpoints/`.

  Returns:
    The model of the checkpoint with the best validation metric, or of the last
    checkpoint if none was evaluated.

  Raises:
    FileNotFoundError: The folder, its config or its checkpoints are missing.
    ConfigError: The config is not valid for this version.
    CheckpointError: A checkpoint is damaged or does not fit its config.

  Examples:
    >>> import cellseg_jax
    >>> model = cellseg_jax.load_model('runs/cells')
    >>> model.config.data.channels
    1
  """
  return load_best(workdir)[0]


def load_variables(workdir: str | pathlib.Path, like: Config) -> fcn.Variables:
  """Loads the variables of a run's best model into another config's network.

  Args:
    workdir: The folder of a training run.
    like: A config whose network has variables of the same shapes.

  Raises:
    FileNotFoundError: The folder, its config or its checkpoints are missing.
    ConfigError: The run's config is not valid for this version.
    CheckpointError: The checkpoint is damaged or does not fit the network.
  """
  folder, config = _find(pathlib.Path(workdir))
  with Checkpoints(folder, config.training.best_metric) as checkpoints:
    step = _best_step(checkpoints, workdir)
    return checkpoints.restore_variables(step, like)


def load_best(workdir: str | pathlib.Path) -> tuple[Model, int]:
  """Loads a model like `load_model`, and also returns its training step."""
  folder, config = _find(pathlib.Path(workdir))
  with Checkpoints(folder, config.training.best_metric) as checkpoints:
    step = _best_step(checkpoints, workdir)
    variables = checkpoints.restore_variables(step, config)
    metrics = checkpoints.metrics(step)
  # A checkpoint saved between evaluations has no chosen decoder settings.
  settings = {
    name: jnp.float32(metrics.get(name, value))
    for name, value in default_settings(config.decoding).items()
  }
  return Model(variables, settings, config), step


def _find(workdir: pathlib.Path) -> tuple[pathlib.Path, Config]:
  """Returns the checkpoint folder of a run and its validated config."""
  config_path = workdir / 'config.json'
  folder = workdir / 'checkpoints'
  for path in (config_path, folder):
    if not path.exists():
      raise FileNotFoundError(
        f'{workdir}: no trained model here (there is no {path.name}); give the '
        'folder that training wrote, its --workdir'
      )
  config = serialization.load(config_path)
  try:
    check_values(config)
  except ConfigError as error:
    raise ConfigError(f'{config_path}: {error}') from error
  return folder, config


def _best_step(checkpoints: Checkpoints, workdir: str | pathlib.Path) -> int:
  step = checkpoints.best_step()
  if step is None:
    raise FileNotFoundError(
      f'{workdir}: training has not saved a checkpoint yet'
    )
  return step
