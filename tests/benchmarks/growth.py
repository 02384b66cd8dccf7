"""How time and memory grow; see `networks` for the form of the functions."""

from collections.abc import Callable
import dataclasses
import functools

import numpy as np

Call = Callable[[], object]


def whole_image(model: str, image: np.ndarray, side: int) -> Call:
  """Pixels to labels of an image of so many rows, by tiles from 4096 on."""
  from cellseg_jax.cli import process
  from cellseg_jax.inference.large import segment_large
  from cellseg_jax.inference.load import load_model
  from cellseg_jax.inference.on_host import segment_image

  process.keep_freed_blocks()
  loaded = load_model(model)
  times = -(-side // min(image.shape))
  wide = np.tile(image, (times, times))[:side, :side]
  find = segment_large if side >= 4096 else segment_image
  return lambda: find(loaded, wide)


def batch(model: str, image: np.ndarray, size: int) -> Call:
  """Our maps of so many images of 256 x 256 at once."""
  import jax

  from cellseg_jax.cli import process
  from cellseg_jax.inference.load import load_model
  from cellseg_jax.inference.predict import predict_maps

  process.keep_freed_blocks()
  loaded = load_model(model)
  images = np.stack(
    [np.roll(image, 31 * i, 0)[:256, :256] for i in range(size)]
  )
  return lambda: jax.block_until_ready(predict_maps(loaded, images))


def decoding(cells: int, side: int = 2048) -> Call:
  """The decoder alone, of about so many round cells on a grid."""
  from cellseg_jax import experiments
  from cellseg_jax.inference import decode

  across = max(1, round(cells**0.5))
  pitch = side / across
  y, x = np.mgrid[:side, :side].astype(np.float32)
  away = np.hypot(*((axis % pitch) - pitch / 2 for axis in (y, x)))
  height = np.clip(1 - away / (0.45 * pitch), 0, 1).astype(np.float32)
  maps = {'foreground': np.float32(height > 0)}
  maps |= {'distance': height, 'centre': height}
  config = dataclasses.replace(experiments.cells().decoding, min_area=4, rim=0)
  settings = {
    name: values[0]
    for name, values in decode.DECODERS['ascent'].candidates.items()
  }
  call = functools.partial(decode.decode, maps, config, settings)
  found = int(call().max())
  assert found == across**2, f'{found} cells of {across**2}'
  return call


def training_images(count: int, side: int = 512) -> Call:
  """A training step on a pool of so many images, 8 crops of 128."""
  from benchmarks import networks
  from cellseg_jax.datasets.labelled_image import LabelledImage
  from cellseg_jax.datasets.simulated import simulate_colony

  image, labels = simulate_colony(0)
  image, labels = image[:side, :side], labels[:side, :side]
  images = [
    LabelledImage(
      f'{i}', np.roll(image, i, 0), np.roll(labels, i, 0), labels >= 0
    )
    for i in range(count)
  ]
  return networks.step_on(images, networks.configuration('skips'), 8, 128)
