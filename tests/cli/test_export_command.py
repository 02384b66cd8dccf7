"""`cellseg export`: what is printed, refused and left behind."""

import sys

import jax.numpy as jnp
import pytest
from tiny_networks import LINE

from cellseg_jax.cli import main
from cellseg_jax.config import Config
import cellseg_jax.export
from cellseg_jax.export import agreement
from cellseg_jax.inference import load
from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace


@pytest.fixture
def export(monkeypatch, capsys, tmp_path):
  """Runs the command; returns exit code and both outputs."""
  models = {
    'run': Model(LINE, {'threshold': jnp.float32(0.5)}, Config()),
    'other': Model(
      LINE,
      {'threshold': jnp.float32(0.5)},
      replace(Config(), data={'resample': 0.5}),
    ),
  }
  monkeypatch.setattr(load, 'load_model', models.__getitem__)

  def call(kind, out, *arguments):
    command = ['cellseg', 'export', '--model', 'run', '--to', kind]
    command += [str(tmp_path / out), *arguments]
    monkeypatch.setattr(sys, 'argv', command)
    code = main.run()
    return code, *capsys.readouterr()

  return call


@pytest.fixture
def onnx(monkeypatch):
  """Stands in for the translation, which takes long."""
  onnx_file = pytest.importorskip(
    'cellseg_jax.export.onnx_file', reason="needs the extra 'export'"
  )

  class Graph:
    def SerializeToString(self):
      return b'graph'

  monkeypatch.setattr(onnx_file.onnx_graph, 'build', lambda model: Graph())
  monkeypatch.setattr(onnx_file.agreement, 'maps_of_pixels', lambda *_: {})
  monkeypatch.setattr(onnx_file.onnx_runtime, 'run', lambda *_: {})
  return onnx_file


def worst(onnx, monkeypatch, value):
  monkeypatch.setattr(
    onnx.agreement, 'worst_difference', lambda ours, theirs: value
  )


def test_it_says_how_well_the_file_agrees(export, onnx, monkeypatch, tmp_path):
  worst(onnx, monkeypatch, 2e-6)
  code, out, err = export('onnx', 'model.onnx')
  assert (code, err) == (0, '')
  assert '2.0e-06 (allowed: 1e-04)' in out
  assert 'model.onnx.json' in out
  assert (tmp_path / 'model.onnx').read_bytes() == b'graph'


def test_a_file_that_differs_leaves_nothing(
  export, onnx, monkeypatch, tmp_path
):
  worst(onnx, monkeypatch, 2 * agreement.BOUND)
  code, out, err = export('onnx', 'model.onnx')
  assert (code, out) == (1, '')
  assert err.startswith('error: the largest difference')
  assert err.count('\n') == 1
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ('kind', 'package'),
  [
    ('onnx', 'jax2onnx'),
    ('onnx', 'onnxruntime'),
    ('bioimageio', 'bioimageio'),
  ],
)
def test_a_missing_extra_is_named(export, monkeypatch, kind, package):
  for name in list(sys.modules):
    if name.startswith('cellseg_jax.export.'):
      monkeypatch.delitem(sys.modules, name)
      leaf = name.removeprefix('cellseg_jax.export.')
      monkeypatch.delattr(cellseg_jax.export, leaf, raising=False)
  monkeypatch.setitem(sys.modules, package, None)
  code, out, err = export(kind, 'model.zip')
  assert (code, out) == (2, '')
  assert package in err
  assert "pip install 'cellseg_jax[export]'" in err
  assert err.count('\n') == 1


@pytest.mark.parametrize(
  ('kind', 'out', 'arguments', 'message'),
  [
    ('onnx', 'no/model.onnx', (), 'there is no such folder'),
    ('onnx', '.', (), 'is a folder'),
    ('bioimageio', 'model.onnx', (), 'must end in .zip'),
    ('onnx', 'm.onnx', ('--model', 'other'), 'must agree in'),
  ],
)
def test_what_cannot_be_made_is_refused(export, kind, out, arguments, message):
  code, printed, err = export(kind, out, *arguments)
  assert (code, printed) == (2, '')
  assert err.startswith('error: ')
  assert message in err
