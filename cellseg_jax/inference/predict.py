"""A trained model as data, and pure functions from raw pixels."""

from collections.abc import Callable, Mapping
import operator

from flax import struct
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from cellseg_jax.config import Config
from cellseg_jax.images import normalize
from cellseg_jax.images.targets import map_names
from cellseg_jax.inference import decode
from cellseg_jax.inference.confidence import confidence
from cellseg_jax.model import fcn


@struct.dataclass
class Model:
  """A trained network with all that its use needs; a pytree.

  Attributes:
    variables: The network's parameters and batch statistics.
    settings: The decoder's settings by name, float32 () each.
    config: The configuration it was trained with (static).
    members: How many networks' variables are stacked, along a leading axis;
      of 1 they are as they are (static).
  """

  variables: fcn.Variables
  settings: Mapping[str, jax.Array]
  config: Config = struct.field(pytree_node=False)
  members: int = struct.field(pytree_node=False, default=1)

  @property
  def choices(self) -> dict[str, float]:
    """The decoder's settings as plain numbers."""
    return {name: float(value) for name, value in self.settings.items()}


def predict(model: Model, images: jax.Array) -> jax.Array:
  """Computes the probability that each pixel is cell.

  Pure: works under `jax.jit`, `jax.vmap` and `jax.grad`.

  Args:
    model: As `load_model` returns.
    images: As for `predict_maps`.

  Returns:
    float32 (..., H, W), from 0 to 1.

  Raises:
    ValueError: The shape does not fit the model's channels.
  """
  return predict_maps(model, images)['foreground']


@jax.jit
def predict_maps(model: Model, images: jax.Array) -> dict[str, jax.Array]:
  """Computes all maps that the network predicts.

  Pure: works under `jax.jit`, `jax.vmap` and `jax.grad`.

  Args:
    model: As `load_model` returns.
    images: Raw intensities, (..., H, W) for a model of one channel and
      (..., H, W, C) for a model of C channels; any leading axes.

  Returns:
    The maps of the model's config by name, float32 (..., H, W), 0 to 1:
    'foreground', and perhaps those of `images.shape_maps`.

  Raises:
    ValueError: The shape does not fit the model's channels.
  """
  channels = model.config.data.channels
  images = jnp.asarray(images, jnp.float32)
  if channels == 1:
    images = images[..., None]
  _check_shape(images.shape, channels)
  stack = images.reshape(-1, *images.shape[-3:])
  if model.config.decoding.turns:
    maps = _over_turns(model, stack)
  else:
    maps = _maps(model, stack)
  maps = maps.reshape(*images.shape[:-1], -1)
  names = map_names(model.config.model)
  return {name: maps[..., i] for i, name in enumerate(names)}


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
  return segment_with_confidence(model, images)[0]


def segment_with_confidence(
  model: Model, images: np.ndarray
) -> tuple[np.ndarray, list[np.ndarray]]:
  """Finds the cells, and says how sure the network is of each.

  Args:
    model: As `load_model` returns.
    images: As for `predict`.

  Returns:
    Labels as `segment` returns, and for every image, leading axes flattened,
    the `confidence` of cell 1 to n, float32 (n,), 0 to 1.

  Raises:
    ValueError: As `segment`.
  """
  if not np.isfinite(images).all():
    raise ValueError('the image holds NaN or infinite pixels')
  maps = {k: np.asarray(v) for k, v in predict_maps(model, images).items()}
  shape = maps['foreground'].shape
  stacks = {k: v.reshape(-1, *shape[-2:]) for k, v in maps.items()}
  labels, confidences = [], []
  for i in range(len(stacks['foreground'])):
    of_image = {name: stack[i] for name, stack in stacks.items()}
    found = decode.decode(of_image, model.config.decoding, model.choices)
    labels.append(found)
    confidences.append(confidence(found, of_image))
  return np.array(labels, np.int32).reshape(shape), confidences


def segment_maps(
  model: Model, image: np.ndarray
) -> tuple[np.ndarray, np.ndarray, dict[str, np.ndarray]]:
  """Finds the cells of one image, and returns what they were found in.

  Args:
    model: As `load_model` returns.
    image: As for `predict`, without leading axes; finite.

  Returns:
    int32 (H, W), 0 and 1 to n; their confidence, float32 (n,); and the maps as
    `predict_maps` returns.

  Raises:
    ValueError: As `predict`.
  """
  maps = {k: np.asarray(v) for k, v in predict_maps(model, image).items()}
  labels = decode.decode(maps, model.config.decoding, model.choices)
  return labels, confidence(labels, maps), maps


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


def _over_turns(model: Model, images: jax.Array) -> jax.Array:
  """Averages the maps over flips and quarter turns of the images."""
  total = 0.0
  for turns in range(4):
    for flip in (False, True):
      seen = jnp.rot90(images, turns, (1, 2))
      seen = jnp.flip(seen, 2) if flip else seen
      maps = _maps(model, seen)
      maps = jnp.flip(maps, 2) if flip else maps
      total += jnp.rot90(maps, -turns, (1, 2))
  return total / 8


def _maps(model: Model, images: jax.Array) -> jax.Array:
  """Maps raw float32 (N, H, W, C) to maps (N, H, W, M), 0 to 1."""
  intensity = model.config.intensity
  return maps_of_normalized(
    model, jax.vmap(lambda image: normalize.normalize(image, intensity))(images)
  )


def maps_of_normalized(model: Model, images: jax.Array) -> jax.Array:
  """Computes all maps from pixels that are normalised, once, without turns.

  Args:
    model: As `load_model` returns.
    images: float32 (N, H, W, C), as `normalize.normalize` returns.

  Returns:
    float32 (N, H, W, M), 0 to 1: the maps of `map_names`.
  """
  config = model.config
  size = images.shape[1:3]
  small = normalize.resampled_shape(size, config.data.resample)
  inputs = jax.vmap(lambda image: normalize.resample(image, small))(images)
  restore = jax.vmap(lambda logit: normalize.resample(logit, size))

  def maps_of(variables: fcn.Variables) -> jax.Array:
    return jax.nn.sigmoid(restore(fcn.apply(config.model, variables, inputs)))

  return mean_over_members(model, maps_of)


def mean_over_members(
  model: Model, maps_of: Callable[[fcn.Variables], jax.Array]
) -> jax.Array:
  """Averages what `maps_of` makes of every member's variables."""
  if model.members == 1:
    return maps_of(model.variables)

  def together(variables: fcn.Variables) -> jax.Array:
    return jax.vmap(maps_of)(variables).mean(0)

  def in_turn(variables: fcn.Variables) -> jax.Array:
    total = 0.0
    for i in range(model.members):
      total += maps_of(jax.tree.map(operator.itemgetter(i), variables))
    return total / model.members

  # XLA's CPU convolutions with a kernel for each member are slow.
  return lax.platform_dependent(model.variables, cpu=in_turn, default=together)
