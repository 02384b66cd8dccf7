"""The validation images beside the repository, and maps to decode of them."""

import functools
import pathlib

import imageio.v3 as iio
import numpy as np
import pytest
from scipy import ndimage

from cellseg_jax.images.shape_maps import shape_map

DATA = pathlib.Path(__file__).parents[2] / 'shared' / 'data'
SETS = ('neuroblastoma', 'phase_contrast', 'dsb2018_fluo')
SIZE = (400, 480)  # Of the corner that is looked at: all in one program.

needed = pytest.mark.skipif(not DATA.is_dir(), reason='needs ../shared/data')


@functools.cache
def corners():
  """Raw images and labels, two of each set."""
  found = []
  for name in SETS:
    folder = DATA / name / 'validation'
    for path in sorted((folder / 'images').iterdir())[:2]:
      pair = (iio.imread(path), iio.imread(folder / 'labels' / path.name))
      found.append([array[: SIZE[0], : SIZE[1]] for array in pair])
  return found


@functools.cache
def maps():
  """Maps such as a network makes: those of the labels, blurred and noisy."""
  random = np.random.default_rng(0)
  found = []
  for _, labels in corners():
    labels = labels.astype(np.int32)
    truth = {name: shape_map(labels, name) for name in ('distance', 'centre')}
    truth['foreground'] = np.float32(labels > 0)
    noisy = {}
    for name, values in truth.items():
      noise = ndimage.gaussian_filter(random.standard_normal(SIZE), 2)
      values = ndimage.gaussian_filter(values, 1) + noise
      noisy[name] = np.clip(values, 0, 1).astype(np.float32)
    found.append(noisy)
  return found
