"""Weighted pixel losses; each returns a sum and its weight, never a mean."""

import jax
import jax.numpy as jnp
import optax


def weighted_cross_entropy(
  logits: jax.Array, targets: jax.Array, weights: jax.Array
) -> tuple[jax.Array, jax.Array]:
  """Sums the binary cross-entropy of pixels' maps, each times its weight.

  The reduction to one mean over the global batch is the caller's: means of
  parts of a batch whose weights differ do not average to it.

  Args:
    logits: float32 (..., M).
    targets: float32 (..., M), 0 to 1; the losses of the M maps are added.
    weights: float32 (...), non-negative; a pixel of weight 0 has no effect.

  Returns:
    The weighted sum, and the sum of the weights, both float32 ().

  Examples:
    >>> total, weight = weighted_cross_entropy(
    ...     jnp.zeros((2, 1)), jnp.array([[0.], [1.]]), jnp.array([1., 3.]))
    >>> round(float(total / weight), 4)
    0.6931
  """
  losses = optax.sigmoid_binary_cross_entropy(logits, targets).sum(-1)
  return jnp.sum(losses * weights), jnp.sum(weights)
