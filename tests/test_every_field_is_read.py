"""No setting is idle: a run reads every field of its configuration."""

import contextlib
import dataclasses
import pathlib
import sys

import jax
import jax.numpy as jnp
import pytest
import quick
from tiny_networks import shapes, use_a_line
from tiny_sets import cells, write_folder

import cellseg_jax
from cellseg_jax import serialization
from cellseg_jax.config import Config, TargetConfig
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.model import fcn
from cellseg_jax.serialization import replace
from cellseg_jax.training import loop, parallel, results
from cellseg_jax.validation import validate

PACKAGE = pathlib.Path(cellseg_jax.__file__).parent
OWN = ('serialization.py',)


def reader():
  """The file whose code reads an attribute, seen from `__getattribute__`."""
  frame = sys._getframe(2)
  while frame.f_code.co_filename == dataclasses.__file__:
    frame = frame.f_back  # `asdict` reads for the one who called it.
  return pathlib.Path(frame.f_code.co_filename)


@contextlib.contextmanager
def recorded(kinds):
  """Yields the set of (kind, field) that the package reads meanwhile.

  What only checks, copies or saves it does not count.
  """
  reads = set()

  def watch(kind):
    names = {field.name for field in dataclasses.fields(kind)}

    def get(self, name):
      if name in names:
        path = reader()
        if path.is_relative_to(PACKAGE) and path.name not in OWN:
          reads.add((type(self), name))
      return object.__getattribute__(self, name)

    kind.__getattribute__ = get

  for kind in kinds:
    watch(kind)
  try:
    yield reads
  finally:
    for kind in kinds:
      del kind.__getattribute__


def all_fields():
  """Kind and name of every field of every part."""
  return {
    (part.type, field.name)
    for part in dataclasses.fields(Config)
    for field in dataclasses.fields(part.type)
  }


PARTS = [part.type for part in dataclasses.fields(Config)]


@pytest.fixture
def data(tmp_path):
  write_folder(tmp_path / 'set', ['a', 'b', 'c'], shape=(40, 40))
  return {
    'dataset': 'labelled_folder',
    'path': str(tmp_path / 'set'),
    'cache': str(tmp_path / 'cache'),
    'held_out': 1,
  }


def steps_on_one_device(step, steps_per_call, streamed):
  """Stands in for `parallel_steps`, which reads no field: quicker."""
  assert steps_per_call == 1
  assert not streamed

  @quick.jit
  def advance(state, pool):
    state, loss = step(state, pool, 0, axis_name=None)
    return state, loss[None]

  return advance


def test_every_field_is_read(monkeypatch, tmp_path, data):
  config = replace(
    Config(),
    data=data,
    augmentation={'scale': 1.2, 'elastic': 1.0, 'gain': 1.2, 'gamma': 1.2},
    optimizer={'momentum': 0.5, 'warmup_fraction': 0.0},
    training={
      'steps': 2,
      'crop_size': 32,
      'batch_size': jax.device_count(),
      'steps_per_call': 1,
    },
  )
  with recorded(PARTS) as reads:
    # The real network is only traced; the run is that of a line.
    images = jax.ShapeDtypeStruct((1, 32, 32, 1), jnp.float32)
    jax.eval_shape(
      lambda v, x: fcn.apply_train(config.model, v, x),
      shapes(config.model),
      images,
    )
    use_a_line(monkeypatch)
    monkeypatch.setattr(parallel, 'parallel_steps', steps_on_one_device)
    monkeypatch.setattr(results, 'write_figures', lambda *_: None)
    loop.train(config, tmp_path / 'run')
  assert all_fields() - reads == set()


def test_a_field_that_nobody_reads_is_found():
  kind = dataclasses.make_dataclass(
    'Idle',
    [('idle', int, 0)],
    bases=(TargetConfig,),
    frozen=True,
  )
  config = dataclasses.replace(Config(), targets=kind())
  image, labels = cells(shape=(40, 40))
  with recorded([kind]) as reads:
    build_pool([LabelledImage('a', image, labels, labels >= 0)], config)
    validate(config)
    serialization.flat(config)
    hash(config)
    assert config.targets.idle == 0  # Not read by the package.
  names = {field.name for field in dataclasses.fields(kind)}
  assert {name for _, name in reads} == names - {'idle'}
  assert names - {'idle'} == {
    'gap',
    'valley',
    'edge_width',
    'edge_weight',
    'edge_smoothing',
  }
