"""GoogLeNet as a fully convolutional network, from images to pixelwise maps.

The classifier of GoogLeNet is replaced by a head that restores the size of the
input: one transposed convolution (J. Levine 2018; Long et al., CVPR 2015), or a
decoder that also reads the finer feature maps of the body. `init` and `apply`
are pure functions of explicit variables.
"""

from collections.abc import Callable, Mapping
import dataclasses
import functools
import math
from typing import Any

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp
import numpy as np

from cellseg_jax.config import map_names, ModelConfig, STRIDE
from cellseg_jax.model import inception
from cellseg_jax.model.heads import SKIP_FEATURES, SkipHead, TransposedConvHead
from cellseg_jax.model.inception import Channels, ConvRelu, Inception, StemConv

Variables = Mapping[str, Any]

# Szegedy et al. 2015, table 1. The blocks of a stage share a resolution, and a
# max-pool of stride 2 precedes each stage.
STAGES: tuple[dict[str, Channels], ...] = (
  {
    '3a': Channels(64, 96, 128, 16, 32, 32),
    '3b': Channels(128, 128, 192, 32, 96, 64),
  },
  {
    '4a': Channels(192, 96, 208, 16, 48, 64),
    '4b': Channels(160, 112, 224, 24, 64, 64),
    '4c': Channels(128, 128, 256, 24, 64, 64),
    '4d': Channels(112, 144, 288, 32, 64, 64),
    '4e': Channels(256, 160, 320, 32, 128, 128),
  },
  {
    '5a': Channels(256, 160, 320, 32, 128, 128),
    '5b': Channels(384, 192, 384, 48, 128, 128),
  },
)


def scaled(channels: int, width: float) -> int:
  """Returns a channel count times `width`, as a positive multiple of 8."""
  return max(8, round(channels * width / 8) * 8)


class GoogLeNet(nn.Module):
  """The body of GoogLeNet, up to its last Inception block.

  Attributes:
    width: Multiplier of every channel count.
    lrn: Whether the stem has its two local response normalisations.
    normalize: Builds the `Normalize` that follows each convolution.
  """

  width: float
  lrn: bool
  normalize: Callable[[], inception.Normalize]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> list[jax.Array]:
    """Returns the last feature map of each stride: 2, 4, 8, 16 and 32."""

    def conv(features: int, size: int, name: str) -> ConvRelu:
      return ConvRelu(
        scaled(features, self.width), size, self.normalize, name=name
      )

    def lrn(x: jax.Array) -> jax.Array:
      return inception.local_response_norm(x) if self.lrn else x

    stem = scaled(64, self.width)
    x = StemConv(stem, self.normalize, name='conv1')(x, train)
    maps = [x]
    x = lrn(inception.max_pool(x, stride=2))
    x = conv(64, 1, 'conv2_reduce')(x, train)
    x = lrn(conv(192, 3, 'conv2')(x, train))
    for stage in STAGES:
      maps.append(x)
      x = inception.max_pool(x, stride=2)
      for name, row in stage.items():
        channels = Channels(*(scaled(c, self.width) for c in row))
        x = Inception(channels, self.normalize, name=f'block{name}')(x, train)
    return [*maps, x]


class FCN(nn.Module):
  """GoogLeNet with a pixelwise head in place of its classifier.

  Training and prediction call `init`, `apply` and `apply_train` of this module,
  not the methods of this class: they compile faster, and `init` draws the
  head's kernel as the config says.

  Attributes:
    config: Width, normalisation and head.
    axis_name: Mapped axis over which batch statistics are averaged, or None.
  """

  config: ModelConfig
  axis_name: str | None = None

  @nn.compact
  def __call__(self, images: jax.Array, train: bool = False) -> jax.Array:
    config = self.config
    normalize = functools.partial(
      inception.Normalize,
      batch=config.normalization == 'batch',
      momentum=config.batch_norm_momentum,
      axis_name=self.axis_name,
    )
    height, width = images.shape[1:3]
    x = _padded(_padded(images, 1), 2)
    x = x.astype(_compute_dtype(config, x.dtype, train))
    lrn = config.normalization == 'lrn'
    maps = GoogLeNet(config.width, lrn, normalize, name='body')(x, train)
    if config.head == 'skips':
      features = tuple(scaled(c, config.width) for c in SKIP_FEATURES)
      outputs = len(map_names(config))
      logits = SkipHead(features, outputs, normalize, name='head')(maps, train)
    else:
      logits = TransposedConvHead(config.head_kernel, name='head')(maps[-1])
    return logits[:, :height, :width]


def _compute_dtype(
  config: ModelConfig, given: jnp.dtype, train: bool
) -> jnp.dtype:
  """Returns the dtype of the feature maps, given that of the images."""
  if config.compute != 'auto':
    return jnp.dtype(config.compute)
  # Prediction is not rounded, so that labels do not depend on the device:
  # rounding would change cells that are close to a threshold.
  return jnp.bfloat16 if train and jax.default_backend() == 'gpu' else given


def _padded(images: jax.Array, axis: int) -> jax.Array:
  """Pads an axis to a multiple of the stride, by mirroring at its end.

  The result is that of `numpy.pad` with mode 'symmetric'; `jax.numpy.pad` does
  not support this for symbolic sizes.
  """
  size = images.shape[axis]
  padded = STRIDE * ((size + STRIDE - 1) // STRIDE)
  if padded == size:
    return images
  place = (size + jnp.arange(padded - size)) % (2 * size)
  place = jnp.minimum(place, 2 * size - 1 - place)
  more = jnp.take(images, place, axis, mode='clip')
  return jnp.concatenate([images, more], axis)


@functools.partial(jax.jit, static_argnums=(1, 2))
def init(key: jax.Array, config: ModelConfig, channels: int) -> Variables:
  """Draws the initial variables of the network.

  Kernels are He normal (He et al., ICCV 2015), except for that of a transposed
  convolution, for which see `config.head_init`. Scales and running variances
  are 1, biases and running means 0.

  Args:
    key: A JAX random key.
    config: The network.
    channels: Number of channels of the images.

  Returns:
    {'params': ...} and, for batch normalisation, {'batch_stats': ...}, float32.
  """
  images = jnp.zeros((1, STRIDE, STRIDE, channels))
  shapes = jax.eval_shape(FCN(config).init, key, images)
  flat, tree = jax.tree_util.tree_flatten_with_path(shapes)
  names = [path[-1].key for path, _ in flat]
  sizes = [
    leaf.size if name == 'kernel' else 0
    for name, (_, leaf) in zip(names, flat, strict=True)
  ]
  ends = np.cumsum(sizes)
  normal = jax.random.normal(key, (ends[-1],))
  leaves = []
  for name, (path, leaf), end in zip(names, flat, ends, strict=True):
    if name == 'kernel':
      draw = normal[end - leaf.size : end].reshape(leaf.shape)
      head = path[-2].key == 'head' and leaf.ndim == 5
      leaves.append(_head_kernel(draw, config) if head else _he_normal(draw))
    else:
      value = 1 if name in ('scale', 'var') else 0
      leaves.append(jnp.full(leaf.shape, value, leaf.dtype))
  return jax.tree.unflatten(tree, leaves)


def _he_normal(draw: jax.Array) -> jax.Array:
  """Scales standard normal values (..., in, out) to variance 2 / fan-in."""
  return draw * math.sqrt(2 / math.prod(draw.shape[:-1]))


def _head_kernel(draw: jax.Array, config: ModelConfig) -> jax.Array:
  """Turns standard normal values (c, m, m, s, s) into the head's kernel."""
  c, m, _, stride, _ = draw.shape
  if config.head_init == 'random':
    # Every output pixel is a sum of m*m*c products.
    return draw / math.sqrt(c * m * m)
  # Bilinear upsampling of one random projection of the channels.
  distance = jnp.abs(jnp.arange(m * stride) - (m * stride - 1) / 2)
  taps = jnp.maximum(1 - distance / stride, 0).reshape(m, stride)
  projection = draw[:, 0, 0, 0, 0] / math.sqrt(c)
  return jnp.einsum('c,ap,bq->cabpq', projection, taps, taps)


def apply(
  config: ModelConfig, variables: Variables, images: jax.Array
) -> jax.Array:
  """Computes the logits of all maps for prediction.

  Running batch statistics are folded into the convolutions, which changes the
  logits only by rounding.

  Args:
    config: The network.
    variables: Variables with the structure that `init` returns.
    images: float32 (N, H, W, C), normalised; H and W of any size.

  Returns:
    float32 (N, H, W, M): the logits of the M maps of `map_names`.
  """
  if config.normalization == 'batch':
    config = dataclasses.replace(config, normalization='none')
    params = _folded(variables['params'], variables['batch_stats'])
    variables = {'params': params}
  logits: Any = FCN(config).apply(variables, images)
  return logits


def last_layer(params: Mapping[str, Any]) -> dict[str, jax.Array]:
  """Returns the parameters of the last layer, in which logits are linear."""
  return {name: params['head'][name] for name in ('kernel', 'bias')}


def with_last_layer(
  params: Mapping[str, Any], last: Mapping[str, jax.Array]
) -> dict[str, Any]:
  """Returns the parameters with those of the last layer replaced."""
  return {**params, 'head': {**params['head'], **last}}


def _folded(
  params: Mapping[str, Any], stats: Mapping[str, Any]
) -> dict[str, Any]:
  """Folds batch normalisation into the kernel and bias of convolutions."""
  if 'Normalize_0' not in params:
    return {
      name: _folded(part, stats[name]) if name in stats else part
      for name, part in params.items()
    }
  (norm,), (moments,) = (
    tree['Normalize_0'].values() for tree in (params, stats)
  )
  factor = norm['scale'] * lax.rsqrt(moments['var'] + inception.EPSILON)
  bias = norm['bias'] - moments['mean'] * factor
  return {'kernel': params['kernel'] * factor, 'Normalize_0': {'bias': bias}}


def apply_train(
  config: ModelConfig,
  variables: Variables,
  images: jax.Array,
  axis_name: str | None = None,
) -> tuple[jax.Array, Variables]:
  """Computes the logits of all maps for training, with batch statistics.

  Args:
    config: The network.
    variables: Variables with the structure that `init` returns.
    images: float32 (N, H, W, C), normalised.
    axis_name: Mapped axis over which batch statistics are averaged, or None.

  Returns:
    float32 (N, H, W, M) logits, and the updated running statistics (empty
    without batch normalisation).
  """
  logits, updated = FCN(config, axis_name).apply(
    variables, images, train=True, mutable=['batch_stats']
  )
  return logits, updated.get('batch_stats', {})
