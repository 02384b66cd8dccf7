"""Cell segmentation from a few hand-labelled microscopy images, in JAX."""

from cellseg_jax.config import Config
from cellseg_jax.inference.ensemble import ensemble, predict_with_disagreement
from cellseg_jax.inference.large import segment_large
from cellseg_jax.inference.load import load_model
from cellseg_jax.inference.predict import Model, predict
from cellseg_jax.inference.segment import (
  segment,
  segment_with_scores,
  Segmentation,
)

__all__ = [
  'Config',
  'Model',
  'Segmentation',
  'ensemble',
  'load_model',
  'predict',
  'predict_with_disagreement',
  'segment',
  'segment_large',
  'segment_with_scores',
]
