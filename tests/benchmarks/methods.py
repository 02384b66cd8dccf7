"""From pixels to labels, by us and by others; see `networks` for the form.

Peers have the weights that `peers.py` trained, where its folder is given, else
random ones: their networks take as long, their decoders find other cells.
"""

from collections.abc import Callable
import contextlib
import io
import pathlib

import numpy as np

Call = Callable[[], object]


def ours_maps(model: str, image: np.ndarray) -> Call:
  """Our maps alone: normalisation, resampling, network."""
  import jax

  from cellseg_jax.cli import process
  from cellseg_jax.inference.load import load_model
  from cellseg_jax.inference.predict import predict_maps

  process.keep_freed_blocks()
  loaded = load_model(model)
  return lambda: jax.block_until_ready(predict_maps(loaded, image))


def ours_labels(model: str, image: np.ndarray) -> Call:
  """Our labels and confidences, as `cellseg segment` computes them."""
  from cellseg_jax.cli import process
  from cellseg_jax.inference.load import load_model
  from cellseg_jax.inference.on_host import segment_image

  process.keep_freed_blocks()
  loaded = load_model(model)
  return lambda: segment_image(loaded, image)


def cellpose(peers: str, image: np.ndarray, decode: bool) -> Call:
  """Cellpose 3 at its own diameter, with or without its decoder."""
  import logging
  import warnings

  from cellpose import models

  # It says for every image that random weights find no cells.
  logging.disable()
  warnings.simplefilter('ignore')
  paths = sorted(pathlib.Path(peers, 'cellpose', 'models').glob('*'))
  if peers and not paths:
    raise FileNotFoundError(f'{peers}: holds no model of Cellpose')
  trained = str(paths[-1]) if peers else None
  model = models.CellposeModel(gpu=False, pretrained_model=trained or False)
  pixels = image.astype(np.float32)
  return lambda: model.eval(
    pixels, channels=[0, 0], diameter=None, compute_masks=decode
  )


def stardist(peers: str, image: np.ndarray, decode: bool) -> Call:
  """StarDist's default network, with or without its decoder."""
  import os

  os.environ['TF_CPP_MIN_LOG_LEVEL'] = '3'
  from csbdeep.utils import normalize
  from stardist.models import Config2D, StarDist2D

  with contextlib.redirect_stdout(io.StringIO()):
    if peers:
      model = StarDist2D(None, 'model', str(pathlib.Path(peers, 'stardist')))
    else:
      model = StarDist2D(Config2D(n_rays=32, grid=(2, 2)), basedir=None)

  def call() -> object:
    pixels = normalize(image, 1, 99.8)
    run = model.predict_instances if decode else model.predict
    return run(pixels, verbose=False) if decode else run(pixels)

  return call


def instanseg_network(image: np.ndarray) -> Call:
  """InstanSeg's network; its seeds need published weights to mean anything."""
  with contextlib.redirect_stdout(io.StringIO()):
    from instanseg.utils.models.InstanSeg_UNet import InstanSeg_UNet
    import torch

  network = InstanSeg_UNet(1, [[2, 2, 1]], layers=[256, 128, 64, 32]).eval()
  # It takes multiples of its stride alone.
  around = [(0, -side % 32) for side in image.shape]
  padded = np.pad(image.astype(np.float32), around, mode='symmetric')
  pixels = torch.from_numpy(padded)[None, None]

  def call() -> object:
    with torch.inference_mode():
      return network(pixels)

  return call
