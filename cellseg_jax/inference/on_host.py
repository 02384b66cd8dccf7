"""Segments one image in host memory with whichever decoder is faster."""

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
  """Finds the cells of one image, and also returns their confidence and maps.

  On a CPU the NumPy decoder is used, because it is several times faster there;
  on other devices the JAX decoder runs where the maps are. Both give the same
  labels.

  Args:
    model: The model, as `load_model` returns it.
    image: Raw intensities, (H, W), or (H, W, C) for a model of C channels; all
      finite.

  Returns:
    The labels, int32 (H, W), where 0 is background and 1 to n are the cells;
    their confidence, float32 (n,), 0 to 1; and the maps by name, float32 (H,
    W), 0 to 1.

  Raises:
    ValueError: The shape does not fit the model's channels, or a map holds NaN.
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
