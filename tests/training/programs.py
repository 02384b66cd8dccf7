"""Prints, as JSON, what the training program for several devices consists of.

Of a small network with all its kinds of layers: the operations of the program
as it is given to XLA, the bytes of every all-reduce of the compiled program,
and the numbers of parameters and of normalised channels.
"""

from collections import Counter
import json
import math
import re

import jax
import numpy as np
import pytest
import quick
from tiny_networks import keep_few_blocks
from tiny_sets import cells

from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.serialization import replace
from cellseg_jax.training import parallel
from cellseg_jax.training.optimizer import make_optimizer
from cellseg_jax.training.step import init_state, train_step

BYTES = {'f32': 4, 's32': 4, 'u32': 4, 'pred': 1, 'bf16': 2, 'f64': 8}


def program():
  """Lowers one training step for all devices; returns it and its state."""
  config = replace(
    Config(),
    model={'normalization': 'batch', 'width': 0.05, 'head': 'skips'},
    training={'crop_size': 32},
  )
  optimizer = make_optimizer(config.optimizer, 10)
  image, labels = cells(shape=(40, 40))
  pool = build_pool([LabelledImage('a', image, labels, labels >= 0)], config)
  state = init_state(config, optimizer)

  def step(state, pool, device):
    return train_step(
      state,
      pool,
      device,
      config=config,
      optimizer=optimizer,
      batch_size=1,
      axis_name=parallel.AXIS,
    )

  devices = np.arange(jax.device_count(), dtype=np.int32)
  lowered = parallel.data_parallel(step).lower(state, pool, devices)
  return lowered, state


def all_reduces(text):
  """The bytes that each all-reduce of a compiled program adds up."""
  found = re.findall(r'^.* = (.*?) all-reduce(?:-start)?\(', text, re.MULTILINE)
  return [
    sum(
      BYTES[kind] * math.prod(map(int, filter(None, sizes.split(','))))
      for kind, sizes in re.findall(r'(\w+)\[([\d,]*)\]', shapes)
    )
    for shapes in found
  ]


def describe():
  lowered, state = program()
  compiled = lowered.compile(compiler_options=quick.OPTIONS)
  sizes = [leaf.size for leaf in jax.tree.leaves(state.params)]
  moments = sum(leaf.size for leaf in jax.tree.leaves(state.batch_stats))
  return {
    'operations': Counter(re.findall(r'stablehlo\.(\w+)', lowered.as_text())),
    'all_reduces': all_reduces(compiled.as_text()),
    'parameters': sum(sizes),
    'channels': moments // 2,  # Of each a mean and a variance.
  }


if __name__ == '__main__':
  keep_few_blocks(pytest.MonkeyPatch())
  print(json.dumps(describe()))
