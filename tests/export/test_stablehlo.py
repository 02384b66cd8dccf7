"""An exported program beside the functions it was made of."""

import json
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_networks import keep_few_blocks, random_variables
from tiny_sets import cells

from cellseg_jax import serialization
from cellseg_jax.config import Config
from cellseg_jax.export import agreement, stablehlo
from cellseg_jax.export.stablehlo import export_stablehlo, PLATFORMS
from cellseg_jax.inference.ensemble import ensemble
from cellseg_jax.inference.predict import Model, predict
from cellseg_jax.inference.segment import segment_with_scores, Segmentation

ELSEWHERE = """
import sys
sys.path[:] = [p for p in sys.path if p not in ('', sys.argv[1])]
class Refuse:
  def find_spec(self, name, *_):
    if name.split('.')[0] == 'cellseg_jax':
      raise ImportError('not here')
sys.meta_path.insert(0, Refuse())
import pathlib
import jax, numpy as np
try:
  import cellseg_jax
  raise SystemExit('the package is here')
except ImportError:
  pass
data = bytearray(pathlib.Path(sys.argv[2]).read_bytes())
program = jax.jit(jax.export.deserialize(data).call)
with np.load(sys.argv[3]) as images:
  for name, image in images.items():
    found = program(image)
    np.savez(f'{sys.argv[3]}.{name}.npz', *map(np.asarray, found))
print('done')
"""


def model(channels=1, seed=0, method='ascent'):
  """A network whose logits spread, with a threshold amid what it predicts."""
  config = serialization.replace(
    Config(),
    model={
      'width': 0.05,
      'head': 'skips',
      'maps': 'foreground,distance,centre',
    },
    data={'channels': channels, 'resample': 0.7},
    decoding={'method': method, 'min_area': 4, 'rim': 1},
  )
  settings = {'threshold': 0.5, 'depth': 0.02, 'centre_share': 0.5}
  settings = {name: jnp.float32(v) for name, v in settings.items()}
  made = Model(random_variables(config.model, channels, seed), settings, config)
  seen = (
    cells(0)[0] if channels == 1 else np.stack([cells(0)[0]] * channels, -1)
  )
  middle = jnp.median(predict(made, seen))
  return made.replace(settings=settings | {'threshold': middle})


def run_elsewhere(path, images, folder):
  """Runs a program where this package cannot be imported."""
  np.savez(folder / 'images.npz', **images)
  root = str(serialization.pathlib.Path(__file__).parents[2])
  arguments = [root, str(path), str(folder / 'images.npz')]
  result = subprocess.run(
    [sys.executable, '-c', ELSEWHERE, *arguments],
    capture_output=True,
    text=True,
    cwd=folder,
  )
  assert 'done' in result.stdout, result.stderr
  found = {}
  for name in images:
    with np.load(folder / f'images.npz.{name}.npz') as arrays:
      found[name] = Segmentation(*arrays.values())
  return found


def check(found, expected):
  for name, one, other in zip(
    Segmentation._fields, found, expected, strict=True
  ):
    np.testing.assert_allclose(one, other, atol=1e-5, err_msg=name)
  np.testing.assert_array_equal(found.labels, expected.labels)


@pytest.fixture
def _random_weights(monkeypatch):
  """Labels of noise: a rounding error in a map joins cells or parts them."""
  monkeypatch.setattr(agreement, 'LEAST_F1', 0.9)


@pytest.mark.usefixtures('_random_weights')
def test_it_runs_without_the_package_on_any_shape(monkeypatch, tmp_path):
  keep_few_blocks(monkeypatch)
  jax.clear_caches()  # What was compiled of whole networks has other layers.
  made = model()
  path = tmp_path / 'cells.stablehlo'
  export_stablehlo(made, path, max_cells=500)
  images = {
    'odd': np.float32([cells(0, (61, 77))[0], cells(1, (61, 77))[0]]),
    'even': np.float32(cells(2, (64, 96))[0])[None],
    'pixel': np.float32([[[7]]]),
  }
  found = run_elsewhere(path, images, tmp_path)
  for name, image in images.items():
    expected = segment_with_scores(made, image, max_cells=500)
    assert found[name].labels.dtype == np.int32
    check(found[name], expected)
  assert found['odd'].count.min() > 1
  card = json.loads((tmp_path / 'cells.stablehlo.json').read_text())
  assert card['platforms'] == list(PLATFORMS)
  assert card['input']['shape'] == ['B', 'H', 'W']
  assert [one['name'] for one in card['outputs']] == list(Segmentation._fields)
  assert card['outputs'][0]['dtype'] == 'int32'
  assert card['outputs'][2]['shape'] == ['B', 500]
  assert card['jax_version'] == jax.__version__
  assert serialization.from_dict(card['config']) == made.config
  assert card['settings'] == made.choices
  jax.clear_caches()


@pytest.mark.slow
@pytest.mark.usefixtures('_random_weights')
def test_channels_and_members(monkeypatch, tmp_path):
  keep_few_blocks(monkeypatch)
  jax.clear_caches()
  made = ensemble([model(2, seed, 'components') for seed in (0, 1)])
  path = tmp_path / 'cells.stablehlo'
  export_stablehlo(made, path)
  data = bytearray(path.read_bytes())
  program = jax.jit(jax.export.deserialize(data).call)
  image = np.float32(np.stack([cells(0)[0], cells(1)[0]], -1))[None]
  check(Segmentation(*program(image)), segment_with_scores(made, image))
  card = json.loads((tmp_path / 'cells.stablehlo.json').read_text())
  assert card['members'] == 2
  assert card['input']['shape'] == ['B', 'H', 'W', 2]
  jax.clear_caches()


def test_a_folder_that_is_absent_is_said(monkeypatch, tmp_path):
  keep_few_blocks(monkeypatch)
  with pytest.raises(OSError, match='absent'):
    export_stablehlo(model(), tmp_path / 'absent' / 'cells.stablehlo')
  jax.clear_caches()


def test_a_program_that_disagrees_is_not_written(tmp_path, monkeypatch):
  keep_few_blocks(monkeypatch)
  monkeypatch.setattr(stablehlo, '_tried', lambda model, path: 0.98)
  with pytest.raises(agreement.AgreementError, match=r'0\.98.* less than'):
    export_stablehlo(model(), tmp_path / 'cells.stablehlo')
  assert list(tmp_path.iterdir()) == []
