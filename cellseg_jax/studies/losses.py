"""The loss of an image's labels under a model, for the label audit.

Computes each pixel's loss, and the norm of each region's gradient.
"""

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

# Number of regions whose gradients are computed together.
CHUNK = 8


def pixel_losses(model: Model, pool: Pool) -> tuple[np.ndarray, np.ndarray]:
  """Computes each pixel's training loss less the entropy of its targets.

  Targets between 0 and 1 incur a loss equal to their entropy even if they are
  predicted exactly. It is subtracted, so that the loss of a perfect prediction
  is 0 everywhere.

  Args:
    model: A single model, not an ensemble.
    pool: A pool of one image, with the labels to be judged.

  Returns:
    Loss, summed over the maps, and weight of each pixel, both float32 (h, w) at
    the network's scale.
  """
  loss, weight = _losses(
    model.config.model, model.variables, pool.pixels, pool.channels
  )
  return np.asarray(loss), np.asarray(weight)


def gradient_norms(
  model: Model, pool: Pool, found: Sequence[Region]
) -> np.ndarray:
  """Computes the norm of each region's gradient in the last layer.

  It is restricted to the last layer, since one gradient by all parameters per
  cell would not fit in memory. Its norm explains most of that of the whole
  gradient (Katharopoulos & Fleuret, ICML 2018, section 3.2).

  Args:
    model: A single model, not an ensemble.
    pool: A pool of one image, with the labels to be judged.
    found: K regions of the image at the network's scale.

  Returns:
    For each region, the norm of the gradient of its summed weighted loss,
    float32 (K,).
  """
  shape = pool.pixels.shape[1:3]
  norms = np.zeros(len(found), np.float32)
  for start in range(0, len(found), CHUNK):
    # All chunks have one shape, so that only one program is compiled.
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

  # The network's body does not depend on the masks, so it is computed once.
  gradients = jax.vmap(jax.grad(loss_of), (None, 0))(
    fcn.last_layer(params), masks
  )
  return jax.vmap(optax.tree.norm)(gradients)
