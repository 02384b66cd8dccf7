"""Networks small enough to compile in a blink."""

import jax
import jax.numpy as jnp
import numpy as np
import quick

from cellseg_jax.config import STRIDE
from cellseg_jax.inference import segment as segment_lib
from cellseg_jax.model import fcn


def keep_few_blocks(monkeypatch):
  """Leaves one Inception block a stage; all else stays as it is."""
  stages = tuple(dict([next(iter(stage.items()))]) for stage in fcn.STAGES)
  monkeypatch.setattr(fcn, 'STAGES', stages)


def shapes(config, channels=1):
  """The shapes of a network's variables; nothing is computed."""
  # Not the compiled `init`, which would remember `STAGES` before a patch.
  init = fcn.init.__wrapped__
  return jax.eval_shape(
    lambda key: init(key, config, channels), jax.random.key(0)
  )


def random_variables(config, channels=1, seed=0):
  """Variables as `fcn.init` makes, drawn with NumPy: that takes no compiling.

  Biases and batch statistics are random too, where `init` makes them 0 or 1.
  """
  rng = np.random.default_rng(seed)

  def draw(path, shape):
    if path[-1].key in ('scale', 'var'):
      return rng.uniform(0.5, 2, shape.shape).astype(np.float32)
    if path[-1].key in ('bias', 'mean'):
      return np.float32(0.1 * rng.normal(size=shape.shape))
    if len(shape.shape) == 5:  # The head's: channels come first.
      return np.float32(rng.normal(size=shape.shape) / shape.shape[0] ** 0.5)
    fan_in = np.prod(shape.shape[:-1])
    return np.float32(rng.normal(size=shape.shape) * (2 / fan_in) ** 0.5)

  return jax.tree_util.tree_map_with_path(draw, shapes(config, channels))


LINE = {'params': {'slope': np.float32(1.5), 'offset': np.float32(-0.25)}}


def use_a_line(monkeypatch):
  """Makes the network a line: logit = slope * sum of channels + offset."""

  def apply(config, variables, images):
    params = variables['params']
    total = jnp.sum(images, -1, keepdims=True)
    return params['slope'] * total + params['offset']

  def apply_train(config, variables, images, axis_name=None):
    return apply(config, variables, images), variables.get('batch_stats', {})

  monkeypatch.setattr(fcn, 'init', lambda key, config, channels: LINE)
  monkeypatch.setattr(fcn, 'apply', apply)
  monkeypatch.setattr(fcn, 'apply_train', apply_train)
  monkeypatch.setattr(fcn, 'last_layer', lambda params: params)
  monkeypatch.setattr(fcn, 'with_last_layer', lambda params, last: last)


def use_squares(monkeypatch):
  """Makes the network one that sees little, but has the grid of the real one.

  To the line it adds the mean of the 3 x 3 squares of the stride around.
  """

  def apply(config, variables, images):
    params = variables['params']
    total = jnp.sum(images, -1)
    n, height, width = total.shape
    pad = [(0, 0), (0, -height % STRIDE), (0, -width % STRIDE)]
    x = jnp.pad(total, pad, mode='symmetric')
    rows, columns = x.shape[1] // STRIDE, x.shape[2] // STRIDE
    x = x.reshape(n, rows, STRIDE, columns, STRIDE).mean((2, 4))
    x = jnp.pad(x, [(0, 0), (1, 1), (1, 1)])  # Zeros, as convolutions have.
    x = sum(
      x[:, i : i + rows, j : j + columns] for i in range(3) for j in range(3)
    )
    x = x.repeat(STRIDE, 1).repeat(STRIDE, 2)[:, :height, :width]
    return (params['slope'] * (total + x) + params['offset'])[..., None]

  monkeypatch.setattr(fcn, 'apply', apply)


_SEGMENT = segment_lib._segment.__wrapped__
_QUICKLY = quick.jit(_SEGMENT, static_argnums=2)


def segment_quickly(monkeypatch):
  """Makes `segment` compile quickly where it is called by itself."""

  def compiled(model, images, max_cells):
    # Options go with the outermost compiled function only.
    leaves = jax.tree.leaves((model, images))
    traced = any(isinstance(leaf, jax.core.Tracer) for leaf in leaves)
    return (_SEGMENT if traced else _QUICKLY)(model, images, max_cells)

  monkeypatch.setattr(segment_lib, '_segment', compiled)
