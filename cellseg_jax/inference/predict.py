"""A trained model as data, and pure functions from raw pixels."""

from flax import struct
import jax
import jax.numpy as jnp
import numpy as np

from cellseg_jax.config import Config
from cellseg_jax.images import normalize
from cellseg_jax.inference import decode
from cellseg_jax.model import fcn


@struct.dataclass
class Model:
  """A trained network with all that its use needs; a pytree.

  Attributes:
    variables: The network's parameters and batch statistics.
    threshold: float32 (), the probability above which a pixel is cell.
    config: The configuration it was trained with (static).
  """

  variables: fcn.Variables
  threshold: jax.Array
  config: Config = struct.field(pytree_node=False)


@jax.jit
def predict(model: Model, images: jax.Array) -> jax.Array:
  """Computes the probability that each pixel is cell.

  Pure: works under `jax.jit`, `jax.vmap` and `jax.grad`.

  Args:
    model: As `load_model` returns.
    images: Raw intensities, (..., H, W) for a model of one channel and
      (..., H, W, C) for a model of C channels; any leading axes.

  Returns:
    float32 (..., H, W), from 0 to 1.

  Raises:
    ValueError: The shape does not fit the model's channels.
  """
  channels = model.config.data.channels
  images = jnp.asarray(images, jnp.float32)
  if channels == 1:
    images = images[..., None]
  _check_shape(images.shape, channels)
  stack = images.reshape(-1, *images.shape[-3:])
  return _probabilities(model, stack).reshape(images.shape[:-1])


def segment(model: Model, images: np.ndarray) -> np.ndarray:
  """Finds the cells.

  Args:
    model: As `load_model` returns.
    images: As for `predict`.

  Returns:
    int32 (..., H, W): 0 is background, 1 to n are the cells of each image.

  Raises:
    ValueError: As `predict`, or an image holds NaN or infinity.
  """
  if not np.isfinite(images).all():
    raise ValueError('the image holds NaN or infinite pixels')
  probabilities = np.asarray(predict(model, images))
  stack = probabilities.reshape(-1, *probabilities.shape[-2:])
  labels = [
    decode.decode(probability, model.config.decoding, float(model.threshold))
    for probability in stack
  ]
  return np.array(labels, np.int32).reshape(probabilities.shape)


def _check_shape(shape: tuple[int, ...], channels: int) -> None:
  """`shape` has its channels last."""
  if len(shape) >= 3 and shape[-1] == channels and min(shape[-3:-1]) > 0:
    return
  if channels == 1:
    expected, found = '(..., H, W)', shape[:-1]
  else:
    expected, found = f'(..., H, W, {channels})', shape
  raise ValueError(
    f'this model takes images of shape {expected} with at least one pixel, '
    f'found {found}'
  )


def _probabilities(model: Model, images: jax.Array) -> jax.Array:
  """Maps raw float32 (N, H, W, C) to probabilities (N, H, W)."""
  config = model.config
  size = images.shape[1:3]
  small = normalize.resampled_shape(size, config.data.resample)

  def prepare(image: jax.Array) -> jax.Array:
    image = normalize.normalize(image, config.intensity)
    return normalize.resample(image, small)

  logits = fcn.apply(config.model, model.variables, jax.vmap(prepare)(images))
  restore = jax.vmap(lambda logit: normalize.resample(logit, size))
  return jax.nn.sigmoid(restore(logits[..., None])[..., 0])
