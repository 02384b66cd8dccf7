"""The trained model as a pytree, and pure functions from raw pixels to maps.

Segmentation in memory and tile by tile builds on these.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
import operator
from typing import Any

import jax
from jax import lax
import jax.numpy as jnp
from jax.typing import ArrayLike

from cellseg_jax import serialization
from cellseg_jax.config import Config, map_names
from cellseg_jax.images import normalize
from cellseg_jax.model import fcn

# Prefixes of the config fields that determine the shapes of variables, the
# meaning of maps, the form of labels, and the scale of images.
_USED = (
  'data.channels',
  'data.resample',
  'data.diameter',
  'data.pixel_size',
  'intensity.',
  'model.',
  'decoding.',
)


@functools.lru_cache
def architecture(config: Config) -> tuple[tuple[str, Any], ...]:
  """Returns the config fields, by name, that affect how a model is used."""
  fields = serialization.flat(config).items()
  return tuple(field for field in fields if field[0].startswith(_USED))


@dataclasses.dataclass(frozen=True)
class _Static:
  """The static part of a model, compared only by what affects its use.

  Models whose configs differ only in, say, the seed, a folder or the length of
  training have equal static parts and so share compiled code.
  """

  config: Config = dataclasses.field(compare=False)
  members: int
  architecture: tuple[tuple[str, Any], ...]


@jax.tree_util.register_pytree_with_keys_class
@dataclasses.dataclass(frozen=True)
class Model:
  """A trained network with everything needed to use it; a pytree.

  Its leaves are the arrays of `variables` and `settings`. Models of the same
  architecture have the same tree structure, whatever they were trained on, so
  they can be stacked with `jax.tree.map` and share compiled code.

  Attributes:
    variables: The network's parameters and batch statistics.
    settings: The decoder's settings by name, float32 () each.
    config: The configuration it was trained with (static). A model returned by
      a compiled function carries the config of the first model of its
      architecture that the function was compiled for: fields that affect the
      model's use are equal, but others, such as a seed or a path, may be those
      of that model.
    members: Number of ensemble members, whose variables are stacked along a
      leading axis; 1 for a single model, whose variables have no such axis
      (static).

  Examples:
    >>> import cellseg_jax
    >>> import jax
    >>> model = cellseg_jax.load_model('runs/cells')
    >>> 0 <= model.choices['threshold'] <= 1
    True
    >>> on_device = jax.device_put(model)
    >>> on_device.config == model.config
    True
  """

  variables: fcn.Variables
  settings: Mapping[str, jax.Array]
  config: Config
  members: int = 1

  @property
  def choices(self) -> dict[str, float]:
    """The decoder's settings as plain numbers."""
    return {name: float(value) for name, value in self.settings.items()}

  def replace(self, **changes: Any) -> 'Model':
    """Returns a copy of the model with the given attributes changed."""
    return dataclasses.replace(self, **changes)

  def tree_flatten_with_keys(self) -> tuple[tuple[Any, ...], _Static]:
    """Returns the keyed children and the static part; called by JAX."""
    children = tuple(
      (jax.tree_util.GetAttrKey(name), getattr(self, name))
      for name in ('variables', 'settings')
    )
    same = architecture(self.config)
    return children, _Static(self.config, self.members, same)

  @classmethod
  def tree_unflatten(
    cls, static: _Static, children: tuple[Any, ...]
  ) -> 'Model':
    """Inverts `tree_flatten_with_keys`; called by JAX."""
    variables, settings = children
    return cls(variables, settings, static.config, static.members)


def with_settings(model: Model, settings: Mapping[str, float]) -> Model:
  """Returns the model with some of its decoder's settings changed.

  Args:
    model: The model, as `load_model` returns it.
    settings: New values by name, 0 to 1.

  Raises:
    ValueError: The model's decoder has no such setting.
  """
  for name in settings:
    if name not in model.settings:
      raise ValueError(
        f'the decoder of this model has no setting {name!r}; it has '
        f'{", ".join(model.settings)}'
      )
  changed = {name: jnp.float32(value) for name, value in settings.items()}
  return model.replace(settings={**model.settings, **changed})


def predict(model: Model, images: ArrayLike) -> jax.Array:
  """Computes the probability that each pixel belongs to a cell.

  Pure: works under `jax.jit`, `jax.vmap` and `jax.grad`.

  Args:
    model: The model, as `load_model` returns it.
    images: Raw intensities, (..., H, W) for a model of one channel and
      (..., H, W, C) for a model of C channels; any leading axes.

  Returns:
    The foreground probability, float32 (..., H, W), 0 to 1.

  Raises:
    ValueError: The shape does not fit the model's channels.

  Examples:
    >>> import cellseg_jax
    >>> from skimage.io import imread
    >>> model = cellseg_jax.load_model('runs/cells')
    >>> image = imread('more_images/field5.tif')  # (H, W)
    >>> probability = cellseg_jax.predict(model, image)
    >>> probability.shape == image.shape, str(probability.dtype)
    (True, 'float32')
  """
  return predict_maps(model, images)['foreground']


@jax.jit
def predict_maps(model: Model, images: ArrayLike) -> dict[str, jax.Array]:
  """Computes all maps that the network predicts.

  Pure: works under `jax.jit`, `jax.vmap` and `jax.grad`.

  Args:
    model: The model, as `load_model` returns it.
    images: Raw intensities, (..., H, W) for a model of one channel and
      (..., H, W, C) for a model of C channels; any leading axes.

  Returns:
    The maps of the model's config by name, float32 (..., H, W), 0 to 1:
    'foreground' and, depending on the config, those of `images.shape_maps`.

  Raises:
    ValueError: The shape does not fit the model's channels.
  """
  channels = model.config.data.channels
  images = jnp.asarray(images, jnp.float32)
  if channels == 1:
    images = images[..., None]
  _check_shape(images.shape, channels)
  leading = images.shape[:-3]
  stack = images.reshape(math.prod(leading), *images.shape[-3:])
  if model.config.decoding.turns:
    maps = _over_turns(model, stack)
  else:
    maps = _maps(model, stack)
  maps = maps.reshape(*leading, *maps.shape[1:])
  names = map_names(model.config.model)
  return {name: maps[..., i] for i, name in enumerate(names)}


def _check_shape(shape: tuple[int, ...], channels: int) -> None:
  """Checks that `shape`, with channels last, fits the model's channels."""
  # Each side is compared separately, because `min` of symbolic sizes fails.
  filled = all(side > 0 for side in shape[-3:-1])
  if len(shape) >= 3 and shape[-1] == channels and filled:
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
  """Averages the maps over the eight flips and quarter turns of the images."""
  total: Any = 0.0
  for turns in range(4):
    for flip in (False, True):
      seen = jnp.rot90(images, turns, (1, 2))
      seen = jnp.flip(seen, 2) if flip else seen
      maps = _maps(model, seen)
      maps = jnp.flip(maps, 2) if flip else maps
      total += jnp.rot90(maps, -turns, (1, 2))
  return total / 8


def _maps(model: Model, images: jax.Array) -> jax.Array:
  """Computes the maps, (N, H, W, M), 0 to 1, of raw float32 (N, H, W, C)."""
  intensity = model.config.intensity
  return maps_of_normalized(
    model, jax.vmap(lambda image: normalize.normalize(image, intensity))(images)
  )


def maps_of_normalized(model: Model, images: jax.Array) -> jax.Array:
  """Computes all maps from normalised pixels, without averaging over turns.

  Args:
    model: The model, as `load_model` returns it.
    images: Normalised intensities, float32 (N, H, W, C), as
      `normalize.normalize` returns them.

  Returns:
    The M maps in the order of `map_names`, float32 (N, H, W, M), 0 to 1.
  """
  config = model.config
  height, width = images.shape[1:3]
  size = (height, width)
  small = normalize.resampled_shape(size, config.data.resample)
  inputs = jax.vmap(lambda image: normalize.resample(image, small))(images)
  restore = jax.vmap(lambda logit: normalize.resample(logit, size))

  def maps_of(variables: fcn.Variables) -> jax.Array:
    return jax.nn.sigmoid(restore(fcn.apply(config.model, variables, inputs)))

  return mean_over_members(model, maps_of)


def mean_over_members(
  model: Model, maps_of: Callable[[fcn.Variables], jax.Array]
) -> jax.Array:
  """Averages the results of `maps_of` over the members' variables."""
  if model.members == 1:
    return maps_of(model.variables)

  def together(variables: fcn.Variables) -> jax.Array:
    return jax.vmap(maps_of)(variables).mean(0)

  def in_turn(variables: fcn.Variables) -> jax.Array:
    total: Any = 0.0
    for i in range(model.members):
      total += maps_of(_member(variables, i))
    return total / model.members

  # XLA's CPU convolutions with a kernel for each member are slow.
  return lax.platform_dependent(model.variables, cpu=in_turn, default=together)


def each_member(model: Model, of_member: Callable[[fcn.Variables], Any]) -> Any:
  """Stacks the results of `of_member` for every member's variables.

  Args:
    model: A model of n members.
    of_member: Maps the variables of one network to a pytree of arrays.

  Returns:
    The pytree, with a leading axis of size n on every array.
  """

  def stacked(*members: jax.Array) -> jax.Array:
    return jnp.stack(members)

  if model.members == 1:
    return jax.tree.map(stacked, of_member(model.variables))

  def in_turn(variables: fcn.Variables) -> Any:
    made = (of_member(_member(variables, i)) for i in range(model.members))
    return jax.tree.map(stacked, *made)

  # XLA's CPU convolutions with a kernel for each member are slow.
  return lax.platform_dependent(
    model.variables, cpu=in_turn, default=jax.vmap(of_member)
  )


def _member(variables: fcn.Variables, number: int) -> fcn.Variables:
  return jax.tree.map(operator.itemgetter(number), variables)
