"""The layers of GoogLeNet (Inception v1), with channels last.

Szegedy et al., "Going deeper with convolutions", CVPR 2015, table 1. Each layer
is written in the form that XLA runs fastest on CPUs without being slower on
GPUs: 1x1 convolutions as matrix products, the three of them that read the same
input as one product, max-pools as maxima of shifted slices, the stem by
space-to-depth.
"""

from collections.abc import Callable
import functools
from typing import NamedTuple

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

# `FCN.init` draws kernels from this one by one, which takes a minute to compile
# on two CPU cores; `fcn.init` draws them all at once and takes a second.
KERNEL_INIT = nn.initializers.he_normal()

# Added to the variance of a channel in batch normalisation.
EPSILON = 1e-5


class Channels(NamedTuple):
  """Output channels of an Inception block's parts (a row of table 1)."""

  conv1: int
  reduce3: int
  conv3: int
  reduce5: int
  conv5: int
  pool: int


def max_pool(x: jax.Array, stride: int) -> jax.Array:
  """Takes the maximum of every 3x3 window, one axis after the other.

  The gradient of a maximum of slices is deterministic on every device, unlike
  that of a windowed reduction.

  Args:
    x: float (N, H, W, C); H and W are multiples of `stride`.
    stride: With 1 the window is centred on the pixel; with 2 it begins there,
      as in GoogLeNet.

  Returns:
    float (N, H / stride, W / stride, C).
  """
  before, after = (1, 1) if stride == 1 else (0, 1)
  for axis in (1, 2):
    size = x.shape[axis]
    pad = [(0, 0)] * x.ndim
    pad[axis] = (before, after)
    padded = jnp.pad(x, pad, constant_values=-jnp.inf)
    windows = (
      lax.slice_in_dim(padded, start, start + size - stride + 1, stride, axis)
      for start in range(3)
    )
    x = functools.reduce(jnp.maximum, windows)
  return x


def local_response_norm(x: jax.Array) -> jax.Array:
  """Normalises each pixel across 5 neighbouring channels.

  Krizhevsky et al. 2012, section 3.3, with the constants of GoogLeNet's
  reference in Caffe: alpha 1e-4 (divided by the size), beta 0.75, k 1.

  Args:
    x: float (N, H, W, C).

  Returns:
    float (N, H, W, C).
  """
  size, alpha, beta = 5, 1e-4, 0.75
  channels = x.shape[-1]
  reach = size // 2
  squares = jnp.pad(x * x, [(0, 0)] * 3 + [(reach, reach)])
  total = sum(squares[..., i : i + channels] for i in range(size))
  return x * (1 + (alpha / size) * total) ** -beta


class Normalize(nn.Module):
  """Batch normalisation or a bias, which follows a convolution.

  Attributes:
    batch: Batch normalisation if True, otherwise a bias.
    momentum: Fraction of the running statistics that is kept at each step.
    axis_name: Mapped axis over which statistics are averaged, or None.
  """

  batch: bool
  momentum: float
  axis_name: str | None

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    if self.batch:
      return nn.BatchNorm(
        use_running_average=not train,
        momentum=self.momentum,
        epsilon=EPSILON,
        dtype=x.dtype,
        axis_name=self.axis_name if train else None,
      )(x)
    bias = self.param('bias', nn.initializers.zeros, x.shape[-1:])
    return x + bias.astype(x.dtype)


class ConvRelu(nn.Module):
  """A convolution of stride 1 with its normalisation and ReLU.

  Attributes:
    features: Output channels.
    size: Side of the kernel.
    normalize: Builds the `Normalize` that follows.
  """

  features: int
  size: int
  normalize: Callable[[], Normalize]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    shape = (self.size, self.size, x.shape[-1], self.features)
    kernel = self.param('kernel', KERNEL_INIT, shape).astype(x.dtype)
    if self.size == 1:
      flat = x.reshape(-1, x.shape[-1]) @ kernel[0, 0]
      x = flat.reshape(*x.shape[:-1], self.features)
    else:
      x = lax.conv_general_dilated(
        x, kernel, (1, 1), 'SAME', dimension_numbers=('NHWC', 'HWIO', 'NHWC')
      )
    return nn.relu(self.normalize()(x, train))


class StemConv(nn.Module):
  """The first layer of GoogLeNet: 7x7 convolution, stride 2, padding 3.

  Computed as a 4x4 convolution of stride 1 on 2x2 blocks of pixels stacked as
  channels, with the kernel padded to 8x8 by a first row and column of zeros.

  Attributes:
    features: Output channels.
    normalize: Builds the `Normalize` that follows.
  """

  features: int
  normalize: Callable[[], Normalize]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    n, h, w, c = x.shape
    kernel = self.param('kernel', KERNEL_INIT, (7, 7, c, self.features))
    kernel = kernel.astype(x.dtype)
    kernel = jnp.pad(kernel, [(1, 0), (1, 0), (0, 0), (0, 0)])
    kernel = kernel.reshape(4, 2, 4, 2, c, self.features)
    kernel = kernel.transpose(0, 2, 1, 3, 4, 5)
    kernel = kernel.reshape(4, 4, 4 * c, self.features)
    x = x.reshape(n, h // 2, 2, w // 2, 2, c).transpose(0, 1, 3, 2, 4, 5)
    x = lax.conv_general_dilated(
      x.reshape(n, h // 2, w // 2, 4 * c),
      kernel,
      (1, 1),
      [(2, 1), (2, 1)],
      dimension_numbers=('NHWC', 'HWIO', 'NHWC'),
    )
    return nn.relu(self.normalize()(x, train))


class Inception(nn.Module):
  """An Inception block: concatenated 1x1, 3x3, 5x5 and pooling branches.

  Attributes:
    channels: Output channels of the parts.
    normalize: Builds the `Normalize` that follows each convolution.
  """

  channels: Channels
  normalize: Callable[[], Normalize]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    c = self.channels

    def conv(features: int, size: int, name: str) -> ConvRelu:
      return ConvRelu(features, size, self.normalize, name=name)

    # The three 1x1 convolutions that read the block's input, as one product.
    pointwise = conv(c.conv1 + c.reduce3 + c.reduce5, 1, 'pointwise')(x, train)
    branch1, branch3, branch5 = jnp.split(
      pointwise, [c.conv1, c.conv1 + c.reduce3], axis=-1
    )
    branch3 = conv(c.conv3, 3, 'conv3')(branch3, train)
    branch5 = conv(c.conv5, 5, 'conv5')(branch5, train)
    pooled = conv(c.pool, 1, 'pool')(max_pool(x, stride=1), train)
    return jnp.concatenate([branch1, branch3, branch5, pooled], axis=-1)
