"""The network of `cellseg_jax.model` in Flax, as usually written there.

`nn.Conv`, `nn.BatchNorm`, `nn.max_pool` and `nn.ConvTranspose`, a module a
convolution: what ours is when nothing is done for speed.
"""

from flax import linen as nn
import jax

from cellseg_jax.config import map_names, ModelConfig, STRIDE
from cellseg_jax.model.fcn import scaled, STAGES
from cellseg_jax.model.heads import SKIP_FEATURES


class ConvRelu(nn.Module):
  """Convolution, batch normalisation and ReLU."""

  features: int
  size: int
  stride: int = 1

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    size, stride = (self.size, self.size), (self.stride, self.stride)
    padding = [(self.size // 2, self.size // 2)] * 2
    x = nn.Conv(self.features, size, stride, padding, use_bias=False)(x)
    return nn.relu(nn.BatchNorm(use_running_average=not train)(x))


class Inception(nn.Module):
  """An Inception block; `row` as `inception.Channels`."""

  row: tuple[int, ...]

  @nn.compact
  def __call__(self, x: jax.Array, train: bool) -> jax.Array:
    conv1, reduce3, conv3, reduce5, conv5, pool = self.row
    branch3 = ConvRelu(reduce3, 1)(x, train)
    branch5 = ConvRelu(reduce5, 1)(x, train)
    pooled = nn.max_pool(x, (3, 3), padding='SAME')
    branches = (
      ConvRelu(conv1, 1)(x, train),
      ConvRelu(conv3, 3)(branch3, train),
      ConvRelu(conv5, 5)(branch5, train),
      ConvRelu(pool, 1)(pooled, train),
    )
    return jax.numpy.concatenate(branches, -1)


class FCN(nn.Module):
  """GoogLeNet with a head of pixels; sides are multiples of 32."""

  config: ModelConfig

  @nn.compact
  def __call__(self, x: jax.Array, train: bool = False) -> jax.Array:
    width = self.config.width

    def conv(x: jax.Array, features: int, size: int, stride: int = 1):
      return ConvRelu(scaled(features, width), size, stride)(x, train)

    def pool(x: jax.Array) -> jax.Array:
      return nn.max_pool(x, (3, 3), (2, 2), 'SAME')

    x = conv(x, 64, 7, 2)
    maps = [x]
    x = conv(conv(pool(x), 64, 1), 192, 3)
    for stage in STAGES:
      maps.append(x)
      x = pool(x)
      for row in stage.values():
        x = Inception(tuple(scaled(c, width) for c in row))(x, train)
    if self.config.head == 'transposed':
      size = (self.config.head_kernel,) * 2
      return nn.ConvTranspose(1, size, (STRIDE, STRIDE))(x)
    for features, fine in zip(SKIP_FEATURES, reversed(maps), strict=True):
      x = conv(x, features, 1)
      n, height, columns, channels = x.shape
      doubled = (n, 2 * height, 2 * columns, channels)
      x = jax.image.resize(x, doubled, 'nearest') + conv(fine, features, 1)
      x = conv(x, features, 3)
    x = nn.Conv(len(map_names(self.config)), (1, 1))(x)
    n, height, columns, channels = x.shape
    doubled = (n, 2 * height, 2 * columns, channels)
    return jax.image.resize(x, doubled, 'linear')
