"""Cells of one image that lies on the host, by the decoder that is faster."""

import functools
from typing import Any

import jax
import numpy as np

from cellseg_jax.inference import decode
from cellseg_jax.inference.confidence import confidence
from cellseg_jax.inference.predict import Model, predict_maps
from cellseg_jax.inference.pure import decode as pure


def segment_image(
  model: Model, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
  """Finds the cells of one image, and returns what they were found in.

  On a CPU the NumPy decoder is several times faster, elsewhere the JAX one
  runs where the maps are; their labels are the same.

  Args:
    model: As `load_model` returns.
    image: As for `predict`, without leading axes; finite.

  Returns:
    int32 (H, W), 0 and 1 to n; their confidence, float32 (n,); and the maps as
    `predict_maps` returns.

  Raises:
    ValueError: As `predict`, or a map holds NaN.
  """
  found = predict_maps(model, image)
  maps = {name: np.asarray(values) for name, values in found.items()}
  if jax.default_backend() == 'cpu':
    labels = decode.decode(maps, model.config.decoding, model.choices)
  else:
    for name in decode.DECODERS[model.config.decoding.method].maps:
      decode.check_finite(name, maps[name])
    labels = np.asarray(_decode(found, model.config.decoding, model.settings))
  return labels, confidence(labels, maps), maps


@functools.partial(jax.jit, static_argnums=1)
def _decode(maps: Any, config: Any, settings: Any) -> jax.Array:
  return pure.decode(maps, config, settings)[0]
