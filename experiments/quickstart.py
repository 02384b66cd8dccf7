"""See `cellseg_jax.experiments.quickstart`, which this returns."""

from cellseg_jax.config import Config
from cellseg_jax.experiments import quickstart


def get_config() -> Config:
  """Returns the configuration, for `run_train.py --config`."""
  return quickstart()
