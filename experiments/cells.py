"""See `cellseg_jax.experiments.cells`, which this returns."""

from cellseg_jax.config import Config
from cellseg_jax.experiments import cells


def get_config() -> Config:
  """Returns the configuration, for `run_train.py --config`."""
  return cells()
