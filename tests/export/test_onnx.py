"""ONNX files: ONNX Runtime computes what the model does, at any size."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from tiny_networks import keep_few_blocks, random_variables

from cellseg_jax.config import Config
from cellseg_jax.export import agreement
from cellseg_jax.inference import decode, ensemble
from cellseg_jax.inference.predict import maps_of_normalized, Model
from cellseg_jax.serialization import replace

pytest.importorskip('jax2onnx', reason="needs the extra 'export'")
onnx_graph = pytest.importorskip('cellseg_jax.export.onnx_graph')
onnx_runtime = pytest.importorskip('cellseg_jax.export.onnx_runtime')
onnx_file = pytest.importorskip('cellseg_jax.export.onnx_file')

MAPS = 'foreground,distance,centre'


@pytest.fixture(autouse=True)
def _quickly(monkeypatch):
  keep_few_blocks(monkeypatch)
  monkeypatch.setattr(agreement, '_maps', quick.jit(maps_of_normalized))
  monkeypatch.setattr(agreement, 'SHAPE', (45, 67))


def tiny_model(seed=0, data=(), decoding=(), **network):
  config = replace(
    Config(),
    data=dict(data),
    decoding={'method': 'components'} | dict(decoding),
    model={'width': 0.05} | network,
  )
  variables = random_variables(config.model, config.data.channels, seed)
  settings = decode.default_settings(config.decoding)
  settings = {name: jnp.float32(value) for name, value in settings.items()}
  return Model(variables, settings, config)


def pixels(shape, seed=0):
  return np.random.default_rng(seed).random(shape, np.float32)


def worst(model, path, shapes):
  """The largest difference over inputs of these shapes, and the maps' range."""
  differences, ranges = [], []
  for shape in shapes:
    inputs = pixels(shape)
    ours = agreement.maps_of_pixels(model, inputs)
    assert ours['foreground'].shape == (shape[0], *shape[2:])
    theirs = onnx_runtime.run(path, inputs)
    differences.append(agreement.worst_difference(ours, theirs))
    ranges.append(np.ptp(ours['foreground']))
  return max(differences), min(ranges)


def built(model, folder):
  path = folder / 'model.onnx'
  path.write_bytes(onnx_graph.build(model).SerializeToString())
  return path


@pytest.mark.parametrize(
  'network',
  [
    {'head': 'skips', 'normalization': 'batch', 'maps': MAPS},
    {'head': 'transposed', 'normalization': 'lrn'},
  ],
  ids=['skips', 'transposed'],
)
def test_it_agrees_for_other_sizes_and_batches(tmp_path, network):
  model = tiny_model(data={'channels': 2}, **network)
  path = built(model, tmp_path)
  difference, spread = worst(model, path, [(1, 2, 45, 67), (3, 2, 64, 33)])
  assert difference < 3e-5
  assert spread > 0.1


@pytest.mark.parametrize('factor', [0.4, 1.7])
def test_resampling_is_in_the_graph(tmp_path, factor):
  model = tiny_model(data={'resample': factor})
  path = built(model, tmp_path)
  shapes = [(2, 1, 75, 101), (1, 1, 9, 1)]
  assert worst(model, path, shapes)[0] < agreement.BOUND


def test_an_ensemble_is_one_file(tmp_path):
  members = [tiny_model(seed, data={'resample': 0.5}) for seed in range(2)]
  model = ensemble.ensemble(members)
  path = built(model, tmp_path)
  assert worst(model, path, [(2, 1, 70, 45)])[0] < 1e-5
  assert worst(members[0], path, [(2, 1, 70, 45)])[0] > 1e-2


def test_the_card_says_what_is_needed(tmp_path):
  model = tiny_model(
    data={'resample': 0.5, 'diameter': 33.0},
    decoding={'method': 'ascent', 'turns': True, 'min_area': 7},
    head='skips',
    maps=MAPS,
  )
  path = tmp_path / 'model.onnx'
  difference = onnx_file.export_onnx(model, path)
  assert sorted(p.name for p in tmp_path.iterdir()) == [
    'model.onnx',
    'model.onnx.json',
  ]
  card = json.loads((tmp_path / 'model.onnx.json').read_text())
  assert card['agreement']['largest_difference'] == difference
  assert difference <= card['agreement']['bound'] == agreement.BOUND
  assert card['input']['shape'] == ['B', 1, 'H', 'W']
  assert [output['name'] for output in card['outputs']] == MAPS.split(',')
  assert card['resample'] == 0.5
  assert card['diameter'] == 33
  assert card['turns'] is True
  assert card['decoder']['method'] == 'ascent'
  assert card['decoder']['settings'] == model.choices
  assert card['decoder']['min_area'] == 7
  assert card['normalization']['low_percentile'] == 1
  assert card['normalization']['high_percentile'] == 99.8
  assert card['normalization']['noise_floor'] == 12
  assert card['normalization']['sample'] == 65536
  assert card['versions']['jax'] == jax.__version__
  assert 'onnxruntime' in card['versions']


def test_a_file_that_differs_is_not_written(tmp_path, monkeypatch):
  model, other = tiny_model(0), tiny_model(1)
  build = onnx_graph.build
  monkeypatch.setattr(onnx_graph, 'build', lambda _: build(other))
  path = tmp_path / 'model.onnx'
  path.write_text('what was there')
  with pytest.raises(agreement.AgreementError, match='largest difference'):
    onnx_file.export_onnx(model, path)
  assert [p.name for p in tmp_path.iterdir()] == ['model.onnx']
  assert path.read_text() == 'what was there'
