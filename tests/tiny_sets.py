"""Tiny data sets that the tests write to disk."""

import numpy as np

from cellseg_jax.images import formats


def cells(seed=0, shape=(60, 80)):
  """An image of bright discs, uint8, and their labels, uint16."""
  rng = np.random.default_rng(seed)
  image = rng.integers(10, 30, shape).astype(np.uint8)
  labels = np.zeros(shape, np.uint16)
  y, x = np.mgrid[: shape[0], : shape[1]]
  value = 0
  for center_y in range(12, shape[0] - 8, 18):
    for center_x in range(12, shape[1] - 8, 18):
      value += 1
      labels[np.hypot(y - center_y, x - center_x) < 6.5] = value
  image[labels > 0] += 90
  return image, labels


def write_folder(folder, names, **options):
  """Writes `cells` under folder/images and folder/labels."""
  for part in ('images', 'labels'):
    (folder / part).mkdir(parents=True, exist_ok=True)
  for seed, name in enumerate(names):
    image, labels = cells(seed, **options)
    formats.write_labels(folder / 'images' / f'{name}.tif', image)
    formats.write_labels(folder / 'labels' / f'{name}.tif', labels)
  return folder
