"""The loss that labels cost a model, pixel by pixel."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cellseg_jax.config import ModelConfig
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.inference.predict import Model
from cellseg_jax.model import fcn


def pixel_losses(
  model: Model, image: LabelledImage
) -> tuple[np.ndarray, np.ndarray]:
  """Computes each pixel's loss as in training, without what cannot be avoided.

  Targets between 0 and 1 cost their entropy even where they are met; it is
  subtracted, so that the loss of a perfect prediction is 0 everywhere.

  Args:
    model: A single one.
    image: With the labels to be judged.

  Returns:
    The loss, summed over the maps, and the pixel's weight, both float32 (h, w)
    at the network's scale.
  """
  pool = build_pool([image], model.config)
  loss, weight = _losses(
    model.config.model, model.variables, pool.pixels, pool.channels
  )
  return np.asarray(loss), np.asarray(weight)


@functools.partial(jax.jit, static_argnums=(0, 3))
def _losses(
  config: ModelConfig,
  variables: fcn.Variables,
  pixels: jax.Array,
  channels: int,
) -> tuple[jax.Array, jax.Array]:
  images, targets = pixels[..., :channels], pixels[..., channels:-1]
  logits = fcn.apply(config, variables, images)
  entropy = jax.scipy.special.entr(targets) + jax.scipy.special.entr(
    1 - targets
  )
  loss = optax.sigmoid_binary_cross_entropy(logits, targets) - entropy
  return jnp.sum(loss, -1)[0], pixels[0, ..., -1]
