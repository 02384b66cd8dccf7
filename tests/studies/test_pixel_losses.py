"""What labels cost small networks, by pixel and by region."""

import jax
import numpy as np
import optax
from tiny_networks import keep_few_blocks, LINE, random_variables, use_a_line
from tiny_sets import cells

from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.inference.predict import Model
from cellseg_jax.model import fcn
from cellseg_jax.serialization import replace
from cellseg_jax.studies import losses
from cellseg_jax.studies.suspects import regions


def test_the_loss_is_that_of_training_less_the_entropy(monkeypatch):
  use_a_line(monkeypatch)
  image, labels = cells(shape=(40, 50))
  labelled = LabelledImage('a', image, labels.astype(np.int32), labels >= 0)
  config = replace(Config(), targets={'edge_smoothing': 0.4})
  pool = build_pool([labelled], config)
  loss, weight = losses.pixel_losses(Model(LINE, {}, config), pool)
  pixels = np.asarray(pool.pixels[0], np.float64)
  image, target = pixels[..., 0], pixels[..., 1]
  p = 1 / (1 + np.exp(-(1.5 * image - 0.25)))
  cross = -target * np.log(p) - (1 - target) * np.log(1 - p)
  inner = np.clip(target, 1e-12, 1 - 1e-12)
  entropy = -inner * np.log(inner) - (1 - inner) * np.log(1 - inner)
  assert set(np.unique(pixels[..., 1]).round(3)) == {0.0, 0.2, 0.8, 1.0}
  np.testing.assert_allclose(loss, cross - entropy, atol=1e-5)
  np.testing.assert_array_equal(weight, pixels[..., -1])


def test_the_gradient_is_that_of_each_regions_loss(monkeypatch):
  use_a_line(monkeypatch)
  monkeypatch.setattr(losses, 'CHUNK', 3)
  image, labels = cells(shape=(40, 50))
  labelled = LabelledImage('a', image, labels.astype(np.int32), labels >= 0)
  model = Model(LINE, {}, Config())
  found = regions(labels, np.zeros_like(labels))
  assert len(found) > 3  # Several chunks, the last one not full.
  pool = build_pool([labelled], model.config)
  norms = losses.gradient_norms(model, pool, found)
  pixels = np.asarray(pool.pixels[0])
  image, target, weight = np.moveaxis(pixels.astype(np.float64), -1, 0)
  slope = weight * (1 / (1 + np.exp(-(1.5 * image - 0.25))) - target)
  for region, norm in zip(found, norms, strict=True):
    own = slope[region.box][region.inside]
    seen = image[region.box][region.inside]
    np.testing.assert_allclose(
      norm, np.hypot((own * seen).sum(), own.sum()), rtol=1e-4
    )


def test_the_last_layer_alone_is_seen(monkeypatch):
  keep_few_blocks(monkeypatch)
  config = replace(Config(), model={'head': 'skips', 'width': 0.25})
  variables = random_variables(config.model)
  image, labels = cells(shape=(32, 32))
  labelled = LabelledImage('a', image, labels.astype(np.int32), labels >= 0)
  found = regions(labels, np.zeros_like(labels))[:1]
  pool = build_pool([labelled], config)
  (norm,) = losses.gradient_norms(Model(variables, {}, config), pool, found)
  mask = np.zeros((32, 32))
  mask[found[0].box] = found[0].inside

  def loss_of(params):
    images = pool.pixels[..., :1]
    logits = fcn.apply(config.model, {**variables, 'params': params}, images)
    loss = optax.sigmoid_binary_cross_entropy(logits, pool.pixels[..., 1:-1])
    return (loss[..., 0] * pool.pixels[..., -1] * mask).sum()

  head = jax.jit(jax.grad(loss_of))(variables['params'])['head']
  expected = np.sqrt(np.sum(head['kernel'] ** 2) + np.sum(head['bias'] ** 2))
  np.testing.assert_allclose(norm, expected, rtol=1e-4)
