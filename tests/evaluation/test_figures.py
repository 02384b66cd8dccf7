"""The pictures: colours by hand, files that open."""

import subprocess
import sys

import numpy as np
import pytest
from skimage.io import imread

from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation import figures
from cellseg_jax.evaluation.roc import roc_curve


def scene(shape=(60, 90)):
  """Three cells, two of them touching, and probabilities."""
  labels = np.zeros(shape, np.int32)
  labels[5:30, 5:25] = 4
  labels[5:30, 25:45] = 9
  labels[40:50, 10:40] = 70_000
  random = np.random.default_rng(0)
  probability = np.clip((labels > 0) * 0.7 + 0.3 * random.random(shape), 0, 1)
  return labels, probability


def open_picture(path):
  picture = imread(path)
  assert picture.std() > 10
  assert min(picture.shape[:2]) > 300
  return picture


@pytest.mark.parametrize(
  ('probability', 'colour'),
  [
    (0, (0, 0, 1)),
    (0.25, (0, 1, 1)),
    (0.5, (0, 1, 0)),
    (0.75, (1, 1, 0)),
    (1, (1, 0, 0)),
  ],
)
def test_composite_colours(probability, colour):
  image = np.zeros((4, 4))
  image[:, :2] = 1000
  drawn = figures.composite(image, np.full((4, 4), probability, np.float32))
  np.testing.assert_allclose(drawn[0, 0], colour)
  np.testing.assert_allclose(drawn[0, 3], 0.25 * np.array(colour))


def test_composite_is_continuous():
  ramp = np.linspace(0, 1, 1001)[None]
  drawn = figures.composite(np.zeros((1, 1001)), ramp)
  assert np.abs(np.diff(drawn, axis=1)).max() < 0.002


@pytest.mark.parametrize('scale', [1e-3, 255, 65535])
@pytest.mark.parametrize('channels', [(), (1,), (2,), (3,)])
def test_composite_takes_any_intensities(channels, scale):
  labels, probability = scene()
  image = np.random.default_rng(1).random((*labels.shape, *channels))
  unscaled = figures.composite(image, probability)
  assert unscaled.shape == (*labels.shape, 3)
  assert unscaled.min() >= 0
  assert unscaled.max() <= 1
  np.testing.assert_allclose(
    figures.composite(scale * image + 7, probability), unscaled, atol=1e-9
  )


@pytest.mark.parametrize(
  ('shape', 'channels'), [((60, 90), ()), ((120, 50), (3,))]
)
def test_all_figures_open(tmp_path, shape, channels):
  labels, probability = scene(shape)
  shape = (*shape, *channels)
  image = np.random.default_rng(0).integers(0, 4096, shape, np.uint16)
  valid = np.ones(labels.shape, bool)
  roc = roc_curve(probability, labels > 0)
  figures.training_image(
    tmp_path / 'training.png', LabelledImage('a', image, labels, valid)
  )
  crop = np.s_[:32, :32]
  figures.augmentation(
    tmp_path / 'augmentation.png',
    image,
    image[crop] / 4096,
    labels[crop] > 0,
    1.0 + 4 * (labels[crop] > 0),
  )
  figures.prediction(tmp_path / 'prediction.png', image, probability)
  figures.segmentation(
    tmp_path / 'segmentation.png', image, probability, labels, roc, None
  )
  for name in ('training', 'augmentation', 'prediction', 'segmentation'):
    open_picture(tmp_path / f'{name}.png')


def test_the_same_input_gives_the_same_file(tmp_path):
  labels, probability = scene()
  for name in ('one.png', 'two.png'):
    figures.segmentation(
      tmp_path / name, labels, probability, labels, None, None
    )
  one, two = (tmp_path / name for name in ('one.png', 'two.png'))
  assert one.read_bytes() == two.read_bytes()


def test_no_window_system_is_touched():
  code = (
    'import sys, cellseg_jax.evaluation.figures;'
    "sys.exit('matplotlib.pyplot' in sys.modules)"
  )
  subprocess.run([sys.executable, '-c', code], check=True)
