"""The weighted pixel loss of training, as a sum and its weight, not a mean.

`step.update` adds both up over the devices before it divides them.
"""

import jax
import jax.numpy as jnp
import optax


def weighted_cross_entropy(
  logits: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Returns the weighted sum of the pixels' binary cross-entropies.

  The caller reduces the sums to one mean over the global batch: where the parts
  of a batch differ in weight, the mean of their means is not that mean.

  Args:
    logits: Logits of M maps, float32 (..., M).
    targets: Targets of the maps, float32 (..., M), 0 to 1. A pixel's loss is
      the sum over its M maps.
    weights: Pixel weights, float32 (...), non-negative; a pixel of weight 0 has
      no effect.

  Returns:
    The weighted sum of the losses and the sum of the weights, both float32 ().

  Examples:
    >>> total, weight = weighted_cross_entropy(
    ...     jnp.zeros((2, 1)), jnp.array([[0.], [1.]]), jnp.array([1., 3.]))
    >>> round(float(total / weight), 4)
    0.6931
  """
  losses = optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)
  return jnp.sum(losses * weights), jnp.sum(weights)
