"""The heads of the network: from feature maps of the body to pixel logits."""

from collections.abc import Callable

from flax import linen as nn
import jax
from jax import lax
import jax.numpy as jnp

from cellseg_jax.config import STRIDE
from cellseg_jax.model import inception
from cellseg_jax.model.inception import ConvRelu

# Channels of the decoder at strides 16, 8, 4 and 2.
SKIP_FEATURES = (128, 96, 64, 32)


class TransposedConvHead(nn.Module):
  """One transposed convolution from the coarsest map to one logit per pixel.

  With a kernel of m x m strides, every coarse pixel adds its product with the
  kernel to m x m blocks of output pixels. This is written as one matrix
  product, m*m shifted additions and a depth-to-space; the gradient of a
  convolution operation would be 50 times slower on CPUs.

  Attributes:
    kernel_size: Side of the kernel, a multiple of the stride.
  """

  kernel_size: int

  @nn.compact
  def __call__(self, x: jax.Array) -> jax.Array:
    n, h, w, c = x.shape
    m = self.kernel_size // STRIDE
    # Rows and columns of the kernel are split into (block, pixel in block).
    shape = (c, m, m, STRIDE, STRIDE)
    kernel = self.param('kernel', inception.KERNEL_INIT, shape)
    bias = self.param('bias', nn.initializers.zeros, ())
    # Full precision from here on, as logits are sums of many terms.
    exact = jnp.promote_types(x.dtype, jnp.float32)
    blocks = jnp.matmul(
      x.reshape(-1, c),
      kernel.reshape(c, -1).astype(x.dtype),
      preferred_element_type=exact,
    )
    blocks = blocks.reshape(n, h, w, m, m, STRIDE * STRIDE)
    rows, columns = h + m - 1, w + m - 1
    x = sum(  # type: ignore[assignment]
      jnp.pad(
        blocks[:, :, :, a, b],
        [(0, 0), (a, m - 1 - a), (b, m - 1 - b), (0, 0)],
      )
      for a in range(m)
      for b in range(m)
    )
    x = x.reshape(n, rows, columns, STRIDE, STRIDE).transpose(0, 1, 3, 2, 4)
    x = x.reshape(n, rows * STRIDE, columns * STRIDE)
    # Half of the kernel's overhang is before the first pixel.
    start = (m - 1) * STRIDE // 2
    # Slices, since indexing would be exported as a gather for symbolic sizes.
    for axis, size in ((1, h * STRIDE), (2, w * STRIDE)):
      x = lax.slice_in_dim(x, start, start + size, axis=axis)
    return (x + bias)[..., None]


class SkipHead(nn.Module):
  """A light decoder with skip connections to finer maps of the body.

  At every stride the coarser map is projected by a 1x1 convolution, doubled by
  nearest neighbour and added to the projected finer map; then a 3x3 convolution
  mixes them (Long et al., CVPR 2015, section 4.2; Lin et al., CVPR 2017).

  Attributes:
    features: Channels at strides 16, 8, 4 and 2.
    maps: Number of maps to predict.
    normalize: Builds the `Normalize` that follows each convolution.
  """

  features: tuple[int, ...]
  maps: int
  normalize: Callable[[], inception.Normalize]

  @nn.compact
  def __call__(self, maps: list[jax.Array], train: bool) -> jax.Array:
    def conv(features: int, size: int, name: str) -> ConvRelu:
      return ConvRelu(features, size, self.normalize, name=name)

    *finer, x = maps
    for features, skip in zip(self.features, reversed(finer), strict=True):
      stride = f'{2 * maps[0].shape[1] // skip.shape[1]}'
      x = doubled(conv(features, 1, f'up{stride}')(x, train))
      x += conv(features, 1, f'skip{stride}')(skip, train)
      x = conv(features, 3, f'mix{stride}')(x, train)
    shape = (x.shape[-1], self.maps)
    kernel = self.param('kernel', inception.KERNEL_INIT, shape)
    bias = self.param('bias', nn.initializers.zeros, (self.maps,))
    # Full precision from here on.
    kernel = kernel.astype(x.dtype)
    exact = jnp.promote_types(x.dtype, jnp.float32)
    x = jnp.matmul(x, kernel, preferred_element_type=exact) + bias
    # Linear interpolation, so that the last doubling leaves no visible blocks.
    return doubled_linearly(doubled_linearly(x, 1), 2)


def doubled(x: jax.Array) -> jax.Array:
  """Repeats every pixel of (N, H, W, C) in both directions."""
  return x.repeat(2, axis=1).repeat(2, axis=2)


def doubled_linearly(x: jax.Array, axis: int) -> jax.Array:
  """Doubles an axis by linear interpolation between pixel centres.

  The result is that of `jax.image.resize`, but the operations can be exported
  for any size.

  Args:
    x: float, any shape.
    axis: Index of the axis, not negative.

  Returns:
    float, twice as long along `axis`.
  """
  size = x.shape[axis]
  first = lax.slice_in_dim(x, 0, 1, axis=axis)
  last = lax.slice_in_dim(x, size - 1, size, axis=axis)
  padded = lax.concatenate([first, x, last], axis)
  before = lax.slice_in_dim(padded, 0, size, axis=axis)
  after = lax.slice_in_dim(padded, 2, size + 2, axis=axis)
  pairs = [0.25 * before + 0.75 * x, 0.75 * x + 0.25 * after]
  pairs = [jnp.expand_dims(half, axis + 1) for half in pairs]
  shape = (*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
  return lax.concatenate(pairs, axis + 1).reshape(shape)
