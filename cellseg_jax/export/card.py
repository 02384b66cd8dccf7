"""The card of an exported file: a description for people and programs.

It is written as JSON and says what the file takes, returns, holds and leaves
out.
"""

from importlib import metadata
from typing import Any

from cellseg_jax.config import Config, map_names
from cellseg_jax.inference.predict import Model

# The meaning of each map; `images.targets` computes those of label images.
MEANINGS = {
  'foreground': 'probability that the pixel is cell',
  'distance': 'distance to the outline, over its largest in the cell',
  'centre': 'one minus distance to the centre, over its largest in the cell',
}

_NORMALIZATION = (
  'each channel of each image: (pixel - low) / range; low and high are '
  'percentiles (linear) of the pixels in every k-th row and column from the '
  'first, k = ceil(sqrt(H * W / sample)); range is the larger of high - low '
  'and noise_floor * noise, 1 where that is 0; noise is sqrt(pi) / 2 times the '
  'mean absolute difference of those pixels and those that follow in their rows'
)

_PACKAGES = ('cellseg_jax', 'jax', 'flax', 'numpy')


def describe(
  model: Model, packages: tuple[str, ...] = (), **more: Any
) -> dict[str, Any]:
  """Describes an exported model that takes normalised pixels, returns maps.

  Args:
    model: A model that `load_model` or `ensemble` returned.
    packages: Distributions whose versions to list, in addition to the usual
      ones.
    **more: Further entries, which come first.

  Returns:
    The card, to be written as JSON.
  """
  config = model.config
  return more | {
    **_tensors(config),
    'normalization': {
      'low_percentile': config.intensity.low_percentile,
      'high_percentile': config.intensity.high_percentile,
      'sample': config.intensity.sample,
      'noise_floor': config.intensity.noise_floor,
      'formula': _NORMALIZATION,
    },
    'resample': config.data.resample,
    'diameter': config.data.diameter,
    'pixel_size': config.data.pixel_size,
    'members': model.members,
    'decoder': {
      'method': config.decoding.method,
      'settings': model.choices,
      'min_area': config.decoding.min_area,
      'fill_holes': config.decoding.fill_holes,
      'rim': config.decoding.rim,
    },
    'turns': config.decoding.turns,
    **_extent(model),
    'versions': {
      name: metadata.version(name) for name in (*_PACKAGES, *packages)
    },
  }


def _tensors(config: Config) -> dict[str, Any]:
  """Describes the input and the outputs of the file."""
  return {
    'input': {
      'name': 'image',
      'dtype': 'float32',
      'shape': ['B', config.data.channels, 'H', 'W'],
      'meaning': 'normalised pixels (see normalization) at the scale of the '
      'image; B, H and W are any',
    },
    'outputs': [
      {
        'name': name,
        'dtype': 'float32',
        'shape': ['B', 1, 'H', 'W'],
        'range': [0, 1],
        'meaning': MEANINGS[name],
      }
      for name in map_names(config.model)
    ],
  }


def _extent(model: Model) -> dict[str, list[str]]:
  """Lists the steps from raw pixels to labels that the file does and omits."""
  turns = 'on' if model.config.decoding.turns else 'off'
  return {
    'in_the_file': [
      f'resampling by {model.config.data.resample:g} and back',
      'padding to multiples of the stride, 32',
      'the network and the sigmoid of its logits',
      f'the mean over members ({model.members})',
    ],
    'not_in_the_file': [
      'normalization of the raw pixels',
      'averaging over flips and quarter turns '
      f'({turns} in this model, see turns)',
      'the decoder, from maps to labels',
      'scaling to the diameter or pixel size of the training cells',
    ],
  }
