"""From predicted maps to label images in one JAX program."""

from collections.abc import Callable, Mapping

import jax

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference.decode import DECODERS
from cellseg_jax.inference.pure import basins, cells, measure, pixels

Maps = Mapping[str, jax.Array]
Settings = Mapping[str, jax.Array]


def _components(maps: Maps, settings: Settings) -> tuple[jax.Array, jax.Array]:
  """The `components` decoder; returns as `basins.find`."""
  inside = maps['foreground'] > settings['threshold']
  return inside, pixels.regions(inside, pixels.SIDES)


FINDERS: Mapping[
  str, Callable[[Maps, Settings], tuple[jax.Array, jax.Array]]
] = {
  'components': _components,
  'ascent': basins.find,
}


def decode(
  maps: Maps, config: DecodingConfig, settings: Settings
) -> tuple[jax.Array, jax.Array]:
  """Finds the cells in the maps of one image.

  The same as `inference.decode.decode`, the reference, pixel by pixel. Pure:
  works under `jax.jit` and `jax.vmap`, with shapes that are not known yet.

  Args:
    maps: By name, float32 (H, W), 0 to 1. Pixels that are NaN are background.
      Those that the decoder does not read are left alone.
    config: The decoder and the filters; its own settings are not used.
    settings: Values of the decoder's settings by name, float32 ().

  Returns:
    int32 (H, W): 0 is background, 1 to n are the cells, in the order of their
    first pixels before holes are filled and the rim is added. And n, int32 ().
  """
  maps = {name: maps[name] for name in DECODERS[config.method].maps}
  name = cells.first_places(*FINDERS[config.method](maps, settings))
  if 'confidence' in settings:
    sure = measure.confidence(name, maps, name.size + 1)
    name = cells.kept(name, sure >= settings['confidence'])
  name = cells.clean(name, config)
  labels, number = cells.numbered(name)
  return cells.grown(labels, config.rim), number
