"""Cell segmentation from a few hand-labelled microscopy images, in JAX."""

from cellseg_jax.config import Config
from cellseg_jax.inference.large import segment_large
from cellseg_jax.inference.load import load_model
from cellseg_jax.inference.predict import Model, predict, segment

__all__ = [
  'Config',
  'Model',
  'load_model',
  'predict',
  'segment',
  'segment_large',
]
