"""From predicted maps to label images: the decoders and what they share.

A decoder is a function from maps and settings to the cells' places, and a list
of the settings that are chosen on labelled images; it has one file. The filters
that follow are the same for all.
"""

from collections.abc import Callable, Mapping
import dataclasses

import numpy as np

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference import ascent, components
from cellseg_jax.inference.cleanup import clean

Maps = Mapping[str, np.ndarray]
Settings = Mapping[str, float]


@dataclasses.dataclass(frozen=True)
class Decoder:
  """A way to tell cells apart.

  Attributes:
    separate: Maps and settings to labels, int32 (H, W); pure.
    maps: Names of the maps that it reads.
    candidates: For each setting by name, the values to choose among; the first
      is where the search begins.
  """

  separate: Callable[[Maps, Settings], np.ndarray]
  maps: tuple[str, ...]
  candidates: Mapping[str, tuple[float, ...]]


DECODERS = {
  'components': Decoder(
    components.separate, components.MAPS, components.CANDIDATES
  ),
  'ascent': Decoder(ascent.separate, ascent.MAPS, ascent.CANDIDATES),
}


def fixed_settings(config: DecodingConfig) -> dict[str, float]:
  """Returns the decoder's settings that a config gives; the rest is chosen."""
  given = {
    'threshold': config.threshold or None,
    'depth': config.depth or None,
    'centre_share': config.centre_share if config.centre_share >= 0 else None,
    'confidence': config.confidence if config.confidence >= 0 else None,
  }
  names = DECODERS[config.method].candidates
  return {name: given[name] for name in names if given[name] is not None}


def default_settings(config: DecodingConfig) -> dict[str, float]:
  """Returns the decoder's settings where none were chosen."""
  candidates = DECODERS[config.method].candidates
  first = {name: values[0] for name, values in candidates.items()}
  return first | fixed_settings(config)


def decode(
  maps: Maps, config: DecodingConfig, settings: Settings
) -> np.ndarray:
  """Finds the cells in the maps of one image.

  Args:
    maps: By name, float (H, W), 0 to 1.
    config: The decoder and the filters; its own settings are not used.
    settings: Values of the decoder's settings by name.

  Returns:
    int32 (H, W); 0 is background, 1 to n are the cells.

  Raises:
    ValueError: A map is not (H, W) or holds NaN.
  """
  decoder = DECODERS[config.method]
  for name in decoder.maps:
    _check(name, maps[name])
  return clean(
    decoder.separate(maps, settings),
    min_area=config.min_area,
    fill_holes=config.fill_holes,
    rim=config.rim,
  )


def _check(name: str, values: np.ndarray) -> None:
  if values.ndim != 2:
    raise ValueError(f'map {name} must be (H, W), found shape {values.shape}')
  if np.isnan(values).any():
    raise ValueError(f'map {name} holds NaN; did the training diverge?')
