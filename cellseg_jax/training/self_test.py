"""Self-test: trains a tiny network to check that this machine computes right.

`cellseg doctor` runs it.
"""

import contextlib
import functools
import time
from typing import Any, NamedTuple

import jax
import numpy as np

from cellseg_jax import serialization
from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.evaluation.roc import roc_curve
from cellseg_jax.inference.decode import decode
from cellseg_jax.inference.predict import Model, predict_maps
from cellseg_jax.training.optimizer import make_optimizer
from cellseg_jax.training.step import init_state, train_step, variables_to_use

STEPS = 40
# ROC AUC that the steps reach on bright discs, less a safety margin.
LEAST_AUC = 0.9


class SelfTestError(RuntimeError):
  """The self-test's results cannot be right."""


class Result(NamedTuple):
  """The results of a self-test.

  Attributes:
    first: Loss of the first update.
    last: Loss of the last update.
    auc: Area under the pixelwise ROC curve on the training image.
    cells: Number of cells found in that image.
    seconds: Total time, compilation included.
  """

  first: float
  last: float
  auc: float
  cells: int
  seconds: float


def self_test() -> Result:
  """Trains on a simulated image of discs, on one device, and segments it.

  Raises:
    SelfTestError: The loss is not finite, or the discs were not learnt.
  """
  start = time.monotonic()
  image = _discs()
  config = serialization.replace(
    Config(),
    model={'width': 0.05, 'head': 'skips', 'normalization': 'none'},
    optimizer={'learning_rate': 0.01},
    training={'steps': STEPS, 'batch_size': 4, 'crop_size': 64},
    decoding={'min_area': 20},
  )
  optimizer = make_optimizer(config.optimizer, STEPS)
  compiled = functools.partial(jax.jit, compiler_options=_quick_compiling())
  state = compiled(lambda: init_state(config, optimizer))()
  pool = build_pool([image], config)
  advance = compiled(
    functools.partial(
      train_step, config=config, optimizer=optimizer, batch_size=4
    )
  )
  losses = []
  for _ in range(STEPS):
    state, loss = advance(state, pool)
    losses.append(loss)
  first, *_, last = jax.device_get(losses)
  if not np.isfinite([first, last]).all():
    raise SelfTestError(f'the loss is not finite: {first} at first, now {last}')
  model = Model(variables_to_use(state), {}, config)
  found = compiled(predict_maps)(model, image.image)
  maps = {name: np.asarray(values) for name, values in found.items()}
  labels = decode(maps, config.decoding, {'threshold': 0.5})
  auc = roc_curve(maps['foreground'], image.labels > 0).auc
  if auc < LEAST_AUC:
    raise SelfTestError(
      f'bright discs were not learnt in {STEPS} updates: ROC AUC {auc:.3f}, '
      f'expected at least {LEAST_AUC}'
    )
  seconds = time.monotonic() - start
  return Result(float(first), float(last), auc, int(labels.max()), seconds)


def _quick_compiling() -> dict[str, Any]:
  """Returns options that make CPU compilation three times as fast.

  Options that the installed XLA does not know are left out.
  """
  if jax.default_backend() != 'cpu':
    return {}
  options = {}
  for option, value in (
    ('xla_backend_optimization_level', 0),
    ('xla_cpu_use_fusion_emitters', False),
  ):
    with contextlib.suppress(RuntimeError):  # XLA no longer knows it.
      jax.jit(lambda x: x + 1, compiler_options={option: value})(0)
      options[option] = value
  return options


def _discs() -> LabelledImage:
  """Returns an image of nine bright discs on dark ground, with noise."""
  y, x = np.mgrid[:96, :96]
  labels = np.zeros(y.shape, np.int32)
  for value, (row, column) in enumerate(np.ndindex(3, 3), start=1):
    middle = 16 + 32 * row, 16 + 32 * column
    labels[np.hypot(y - middle[0], x - middle[1]) < 11] = value
  noise = np.random.default_rng(0).normal(0, 8, y.shape)
  image = (20 + 90 * (labels > 0) + noise).astype(np.float32)
  return LabelledImage('discs', image, labels, np.ones(y.shape, bool))
