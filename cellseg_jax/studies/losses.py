"""What labels cost a model: each pixel's loss, each region's gradient."""

from collections.abc import Sequence
import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax

from cellseg_jax.config import ModelConfig
from cellseg_jax.datasets.pool import Pool
from cellseg_jax.inference.predict import Model
from cellseg_jax.model import fcn
from cellseg_jax.studies.suspects import Region

# Regions whose gradients are computed together.
CHUNK = 8


def pixel_losses(model: Model, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
  """Computes each pixel's loss as in training, without what cannot be avoided.

  Targets between 0 and 1 cost their entropy even where they are met; it is
  subtracted, so that the loss of a perfect prediction is 0 everywhere.

  Args:
    model: A single one.
    pool: Of one image, with the labels to be judged.

  Returns:
    The loss, summed over the maps, and the pixel's weight, both float32 (h, w)
    at the network's scale.
  """
  loss, weight = _losses(
    model.config.model, model.variables, pool.pixels, pool.channels
  )
  return np.asarray(loss), np.asarray(weight)


def gradient_norms(
  model: Model, pool: Pool, found: Sequence[Region]
) -> np.ndarray:
  """Computes how strongly the loss of each region pulls at the last layer.

  Of the last layer alone: the gradients by all parameters, for each cell, would
  not fit in memory. Its norm tells most of the whole gradient's (Katharopoulos
  & Fleuret, ICML 2018, section 3.2).

  Args:
    model: A single one.
    pool: Of one image, with the labels to be judged.
    found: Regions of the image at the network's scale.

  Returns:
    Norms of the gradients of the weighted losses, added up over each region,
    float32 (K,).
  """
  shape = pool.pixels.shape[1:3]
  norms = np.zeros(len(found), np.float32)
  for start in range(0, len(found), CHUNK):
    # All chunks have one size, so that one program does.
    masks = np.zeros((CHUNK, *shape), bool)
    for mask, region in zip(masks, found[start : start + CHUNK], strict=False):
      mask[region.box] = region.inside
    made = _norms(
      model.config.model, model.variables, pool.pixels, pool.channels, masks
    )
    norms[start : start + CHUNK] = np.asarray(made)[: len(found) - start]
  return norms


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


@functools.partial(jax.jit, static_argnums=(0, 3))
def _norms(
  config: ModelConfig,
  variables: fcn.Variables,
  pixels: jax.Array,
  channels: int,
  masks: jax.Array,
) -> jax.Array:
  params = variables['params']

  def loss_of(last: fcn.Variables, mask: jax.Array) -> jax.Array:
    own = {**variables, 'params': fcn.with_last_layer(params, last)}
    loss, weight = _losses(config, own, pixels, channels)
    return jnp.sum(loss * weight * mask)

  # The body does not depend on what is mapped over: it is computed once.
  gradients = jax.vmap(jax.grad(loss_of), (None, 0))(
    fcn.last_layer(params), masks
  )
  return jax.vmap(optax.tree.norm)(gradients)
