"""GoogLeNet as a fully convolutional network: pixels to maps of pixels.

The classifier of GoogLeNet is replaced by a head that restores the input's
size: one transposed convolution (J. Levine 2018; Long et al., CVPR 2015), or a
decoder that also reads the body's finer maps. `init` and `apply` are pure
functions of explicit variables.
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

# Szegedy et al. 2015, table 1; blocks of one stage share a resolution, and a
# max-pool of stride 2 stands between stages.
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
  """GoogLeNet's body, from pixels to its last Inception block.

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
    """Returns the last maps of strides 2, 4, 8, 16 and 32."""

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
  """GoogLeNet with a head of pixels for its classifier.

  `init`, `apply` and `apply_train` of this module are what training and
  prediction use: quicker to compile, and with the head's own initial kernel.

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
  """Returns the dtype of the network's maps, for images of a dtype."""
  if config.compute != 'auto':
    return jnp.dtype(config.compute)
  # Labels should not depend on the device: rounded maps move cells that lie
  # near a threshold.
  return jnp.bfloat16 if train and jax.default_backend() == 'gpu' else given


def _padded(images: jax.Array, axis: int) -> jax.Array:
  """Pads to a multiple of the stride, as `numpy.pad`'s 'symmetric' does.

  Written out because `jax.numpy.pad` does not take symbolic sizes so.
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
  """Draws the network's initial variables.

  Kernels are He normal (He et al., ICCV 2015), but for that of a transposed
  convolution, which is as `config.head_init` says; scales are 1, biases 0.

  Args:
    key: A JAX random key.
    config: The network.
    channels: Channels of the images.

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
  """Makes the head's kernel of standard normal values (c, m, m, s, s)."""
  c, m, _, stride, _ = draw.shape
  if config.head_init == 'random':
    # m*m*c products add up in every output pixel.
    return draw / math.sqrt(c * m * m)
  # Bilinear upsampling of one random projection of the channels.
  distance = jnp.abs(jnp.arange(m * stride) - (m * stride - 1) / 2)
  taps = jnp.maximum(1 - distance / stride, 0).reshape(m, stride)
  projection = draw[:, 0, 0, 0, 0] / math.sqrt(c)
  return jnp.einsum('c,ap,bq->cabpq', projection, taps, taps)


def apply(
  config: ModelConfig, variables: Variables, images: jax.Array
) -> jax.Array:
  """Computes the logits of all maps, with running batch statistics.

  These are folded into the convolutions: what training computes, but for
  rounding.

  Args:
    config: The network.
    variables: As `init` returns.
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
  """Returns the parameters from which the logits are linear."""
  return {name: params['head'][name] for name in ('kernel', 'bias')}


def with_last_layer(
  params: Mapping[str, Any], last: Mapping[str, jax.Array]
) -> dict[str, Any]:
  """Returns the parameters with others of the last layer."""
  return {**params, 'head': {**params['head'], **last}}


def _folded(
  params: Mapping[str, Any], stats: Mapping[str, Any]
) -> dict[str, Any]:
  """Turns convolutions with batch normalisation into ones with a bias."""
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
  """Computes the logits of all maps as in training.

  Args:
    config: The network.
    variables: As `init` returns.
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
