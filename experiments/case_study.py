"""See `cellseg_jax.experiments.case_study`, which this returns."""

from cellseg_jax.config import Config
from cellseg_jax.experiments import case_study


def get_config() -> Config:
  """Returns the configuration, for `run_train.py --config`."""
  return case_study()
