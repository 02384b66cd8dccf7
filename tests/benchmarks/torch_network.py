"""The network of `cellseg_jax.model` in PyTorch, as usually written there.

Convolutions with batch normalisation, the three 1x1 convolutions of an
Inception block each on its own, windowed max-pools, one transposed convolution
or the skip decoder. Parameters and arithmetic are ours (a test compares
the counts and the outputs).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from cellseg_jax.config import map_names, ModelConfig, STRIDE
from cellseg_jax.model.fcn import scaled, STAGES
from cellseg_jax.model.heads import SKIP_FEATURES


class ConvRelu(nn.Sequential):
  """Convolution, batch normalisation and ReLU."""

  def __init__(self, inputs: int, outputs: int, size: int, stride: int = 1):
    super().__init__(
      nn.Conv2d(inputs, outputs, size, stride, padding=size // 2, bias=False),
      nn.BatchNorm2d(outputs, eps=1e-5, momentum=0.1),
      nn.ReLU(inplace=True),
    )


class Inception(nn.Module):
  """An Inception block; `row` as `inception.Channels`."""

  def __init__(self, inputs: int, row: tuple[int, ...]):
    super().__init__()
    conv1, reduce3, conv3, reduce5, conv5, pool = row
    self.conv1 = ConvRelu(inputs, conv1, 1)
    self.reduce3 = ConvRelu(inputs, reduce3, 1)
    self.conv3 = ConvRelu(reduce3, conv3, 3)
    self.reduce5 = ConvRelu(inputs, reduce5, 1)
    self.conv5 = ConvRelu(reduce5, conv5, 5)
    self.pool = ConvRelu(inputs, pool, 1)
    self.outputs = conv1 + conv3 + conv5 + pool

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    branches = (
      self.conv1(x),
      self.conv3(self.reduce3(x)),
      self.conv5(self.reduce5(x)),
      self.pool(F.max_pool2d(x, 3, 1, 1)),
    )
    return torch.cat(branches, 1)


def pool2(x: torch.Tensor) -> torch.Tensor:
  """Halves, as `inception.max_pool` of stride 2 for even sides."""
  return F.max_pool2d(x, 3, 2, ceil_mode=True)


class SkipHead(nn.Module):
  """The skip decoder; `sizes` are the channels of the body's maps."""

  def __init__(self, sizes: list[int], features: list[int], maps: int):
    super().__init__()
    *finer, last = sizes
    self.up, self.skip, self.mix = (nn.ModuleList() for _ in range(3))
    for width, inputs in zip(features, reversed(finer), strict=True):
      self.up.append(ConvRelu(last, width, 1))
      self.skip.append(ConvRelu(inputs, width, 1))
      self.mix.append(ConvRelu(width, width, 3))
      last = width
    self.logits = nn.Conv2d(last, maps, 1)

  def forward(self, maps: list[torch.Tensor]) -> torch.Tensor:
    *finer, x = maps
    parts = zip(self.up, self.skip, self.mix, reversed(finer), strict=True)
    for up, skip, mix, fine in parts:
      x = F.interpolate(up(x), scale_factor=2, mode='nearest')
      x = mix(x + skip(fine))
    return F.interpolate(
      self.logits(x), scale_factor=2, mode='bilinear', align_corners=False
    )


class FCN(nn.Module):
  """GoogLeNet with a head of pixels."""

  def __init__(self, config: ModelConfig, channels: int = 1):
    super().__init__()
    width = config.width
    stem, reduced, second = (scaled(c, width) for c in (64, 64, 192))
    self.conv1 = ConvRelu(channels, stem, 7, 2)
    self.conv2_reduce = ConvRelu(stem, reduced, 1)
    self.conv2 = ConvRelu(reduced, second, 3)
    self.stages = nn.ModuleList()
    sizes, inputs = [stem], second
    for stage in STAGES:
      sizes.append(inputs)
      blocks = nn.Sequential()
      for row in stage.values():
        block = Inception(inputs, tuple(scaled(c, width) for c in row))
        blocks.append(block)
        inputs = block.outputs
      self.stages.append(blocks)
    sizes.append(inputs)
    if config.head == 'skips':
      features = [scaled(c, width) for c in SKIP_FEATURES]
      self.head = SkipHead(sizes, features, len(map_names(config)))
    else:
      size = config.head_kernel
      self.head = nn.ConvTranspose2d(
        inputs, 1, size, STRIDE, padding=(size - STRIDE) // 2
      )

  def forward(self, x: torch.Tensor) -> torch.Tensor:
    x = self.conv1(x)
    maps = [x]
    x = self.conv2(self.conv2_reduce(pool2(x)))
    for stage in self.stages:
      maps.append(x)
      x = stage(pool2(x))
    maps.append(x)
    return self.head(maps if isinstance(self.head, SkipHead) else x)


def load(network: FCN, variables: Mapping[str, Any]) -> None:
  """Copies the variables of `fcn.init` into the network.

  Args:
    network: Of the same config.
    variables: With batch normalisation.
  """
  params, stats = variables['params'], variables['batch_stats']
  body, moments = params['body'], stats['body']
  for name in ('conv1', 'conv2_reduce', 'conv2'):
    _set(getattr(network, name), body[name], moments[name])
  for stage, rows in zip(network.stages, STAGES, strict=True):
    for block, name in zip(stage, rows, strict=True):
      ours, theirs = body[f'block{name}'], moments[f'block{name}']
      start = 0
      for part in ('conv1', 'reduce3', 'reduce5'):
        end = start + getattr(block, part)[0].out_channels
        cut = np.s_[..., start:end]
        _set(getattr(block, part), ours['pointwise'], theirs['pointwise'], cut)
        start = end
      for part in ('conv3', 'conv5', 'pool'):
        _set(getattr(block, part), ours[part], theirs[part])
  head = params['head']
  with torch.no_grad():
    if isinstance(network.head, SkipHead):
      for i, stride in enumerate((16, 8, 4, 2)):
        for part in ('up', 'skip', 'mix'):
          name = f'{part}{stride}'
          module = getattr(network.head, part)[i]
          _set(module, head[name], stats['head'][name])
      _copy(network.head.logits.weight, np.asarray(head['kernel']).T)
      _copy(network.head.logits.bias, head['bias'])
    else:
      c, m, _, s, _ = np.shape(head['kernel'])
      kernel = np.transpose(head['kernel'], (0, 1, 3, 2, 4))
      _copy(network.head.weight, kernel.reshape(c, 1, m * s, m * s))
      _copy(network.head.bias, head['bias'])


def _set(
  module: ConvRelu,
  params: Mapping[str, Any],
  stats: Mapping[str, Any],
  cut: Any = ...,
) -> None:
  """Copies one convolution; `cut` takes some of its output channels."""
  convolution, normalization, _ = module
  kernel = np.asarray(params['kernel'])[cut]
  (ours,) = params['Normalize_0'].values()
  (theirs,) = stats['Normalize_0'].values()
  _copy(convolution.weight, kernel.transpose(3, 2, 0, 1))
  _copy(normalization.weight, np.asarray(ours['scale'])[cut])
  _copy(normalization.bias, np.asarray(ours['bias'])[cut])
  _copy(normalization.running_mean, np.asarray(theirs['mean'])[cut])
  _copy(normalization.running_var, np.asarray(theirs['var'])[cut])


def _copy(target: torch.Tensor, values: Any) -> None:
  values = torch.as_tensor(np.array(values, np.float32))
  assert target.numel() == values.numel()
  with torch.no_grad():
    target.copy_(values.reshape(target.shape))
