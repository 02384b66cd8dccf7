"""Decodes predicted maps into label images in one JAX program.

The counterpart of `inference.decode` for use inside compiled programs.
"""

from collections.abc import Callable, Mapping

import jax

from cellseg_jax.config import DecodingConfig
from cellseg_jax.inference.decode import DECODERS
from cellseg_jax.inference.pure import basins, cells, measure, pixels

Maps = Mapping[str, jax.Array]
Settings = Mapping[str, jax.Array]


def _components(maps: Maps, settings: Settings) -> tuple[jax.Array, jax.Array]:
  """Finds connected components; the `components` decoder.

  Returns:
    The pixels that belong to cells, bool (H, W); and, int32 (H, W), for these
    the flat index of the first pixel of their component, for the others their
    own flat index.
  """
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

  Gives the same labels, pixel by pixel, as the reference
  `inference.decode.decode`. Pure: works under `jax.jit` and `jax.vmap`, and
  with symbolic shapes.

  Args:
    maps: The maps by name, float32 (H, W), 0 to 1. NaN pixels are background;
      maps that the decoder does not read are ignored.
    config: Selects the decoder and its clean-up; the decoder settings in it are
      ignored in favour of `settings`.
    settings: Values of the decoder's settings by name, float32 () each.

  Returns:
    The labels, int32 (H, W): 0 is background, 1 to n are the cells, in the
    order of their first pixels before holes are filled and the rim is added;
    and n, int32 ().
  """
  maps = {name: maps[name] for name in DECODERS[config.method].maps}
  name = cells.first_places(*FINDERS[config.method](maps, settings))
  if 'confidence' in settings:
    sure = measure.confidence(name, maps, name.size + 1)
    name = cells.kept(name, sure >= settings['confidence'])
  name = cells.clean(name, config)
  labels, number = cells.numbered(name)
  return cells.grown(labels, config.rim), number
