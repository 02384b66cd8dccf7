"""The loss of every pixel, of a network that is a line."""

import numpy as np
from tiny_networks import LINE, use_a_line
from tiny_sets import cells

from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace
from cellseg_jax.studies import losses


def test_the_loss_is_that_of_training_less_the_entropy(monkeypatch):
  use_a_line(monkeypatch)
  image, labels = cells(shape=(40, 50))
  labelled = LabelledImage('a', image, labels.astype(np.int32), labels >= 0)
  config = replace(Config(), targets={'edge_smoothing': 0.4})
  loss, weight = losses.pixel_losses(Model(LINE, {}, config), labelled)
  pixels = np.asarray(build_pool([labelled], config).pixels[0], np.float64)
  image, target = pixels[..., 0], pixels[..., 1]
  p = 1 / (1 + np.exp(-(1.5 * image - 0.25)))
  cross = -target * np.log(p) - (1 - target) * np.log(1 - p)
  inner = np.clip(target, 1e-12, 1 - 1e-12)
  entropy = -inner * np.log(inner) - (1 - inner) * np.log(1 - inner)
  assert set(np.unique(pixels[..., 1]).round(3)) == {0.0, 0.2, 0.8, 1.0}
  np.testing.assert_allclose(loss, cross - entropy, atol=1e-5)
  np.testing.assert_array_equal(weight, pixels[..., -1])
