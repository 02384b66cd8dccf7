"""Configurations and models that somebody made to harm whoever loads them."""

import contextlib
import json
import os
import shutil

import hostile
import jax
import numpy as np
import orbax.checkpoint as ocp
import pytest
from tiny_networks import keep_few_blocks
from untrained import save_untrained

from cellseg_jax import serialization
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.inference.load import load_model
from cellseg_jax.training import manifest
from cellseg_jax.training.checkpoints import CheckpointError


@pytest.fixture(scope='module')
def whole(tmp_path_factory):
  """The smallest run: its folder, made once."""
  patch = pytest.MonkeyPatch()
  keep_few_blocks(patch)
  folder = tmp_path_factory.mktemp('models') / 'whole'
  config = serialization.replace(Config(), model={'width': 0.053})
  save_untrained(folder, config, {'roc_auc': 0.5, 'threshold': 0.4})
  yield folder
  patch.undo()


@pytest.fixture
def run(whole, tmp_path):
  """A copy of it to change."""
  return shutil.copytree(whole, tmp_path / 'run')


def signed(run):
  """Makes the manifest anew, as whoever changes the files would."""
  manifest.write(run / 'checkpoints' / '1')
  return run


def contents(folder):
  return {
    path.relative_to(folder): (path.read_bytes() if path.is_file() else None)
    for path in folder.rglob('*')
  }


def test_loading_writes_nothing(run):
  partial = run / 'checkpoints' / '2.orbax-checkpoint-tmp-7'
  partial.mkdir()
  before = contents(run)
  model = load_model(run)
  assert contents(run) == before
  assert float(model.choices['threshold']) == np.float32(0.4)


def test_pickles_beside_the_arrays_are_not_read(run, tmp_path):
  step = run / 'checkpoints' / '1'
  for name in ('checkpoint', 'variables/model.pkl'):
    (step / name).write_bytes(hostile.pickled(tmp_path / 'ran'))
  for name in ('config.pkl', 'conftest.py', 'config.py', '__init__.py'):
    (run / name).write_bytes(hostile.pickled(tmp_path / 'ran'))
  load_model(signed(run))
  other = step / 'variables' / 'checkpoint'
  other.write_bytes(hostile.pickled(tmp_path / 'ran'))
  with pytest.raises(CheckpointError, match='not stored as OCDBT'):
    load_model(signed(run))
  for path in step.rglob('*'):
    if path.is_file() and path.name != 'manifest.json':
      path.write_bytes(hostile.pickled(tmp_path / 'ran'))
  with pytest.raises(CheckpointError):
    load_model(signed(run))
  assert not (tmp_path / 'ran').exists()


def test_handlers_are_not_imported_by_their_names(run, tmp_path, monkeypatch):
  (tmp_path / 'evil.py').write_text('import os; os.mkdir("ran")')
  monkeypatch.chdir(tmp_path)
  monkeypatch.syspath_prepend(tmp_path)
  for path in (run / 'checkpoints' / '1').rglob('*METADATA*'):
    text = path.read_text()
    for name in ('orbax.checkpoint', 'jax.Array', 'np.ndarray'):
      text = text.replace(name, 'evil')
    path.write_text(text)
  with contextlib.suppress(CheckpointError):
    load_model(signed(run))
  assert not (tmp_path / 'ran').exists()


@pytest.mark.parametrize('claim', ['shape', 'chunks'])
def test_arrays_that_claim_too_much_are_not_read(whole, tmp_path, claim):
  """A kilobyte of an array of 10^11 values that were never written."""
  run = tmp_path / 'run'
  shutil.copytree(whole, run)
  hostile.claiming(run / 'checkpoints' / '1' / 'variables', claim)
  with pytest.raises(CheckpointError, match=r'claim to hold \d+ values'):
    load_model(signed(run))


def test_arrays_that_the_network_has_not_are_not_read(run):
  item = run / 'checkpoints' / '1' / 'variables'
  metadata = json.loads((item / '_METADATA').read_text())
  trees = metadata['tree_metadata']
  name = next(iter(trees))
  one = json.loads(json.dumps(trees[name]))
  one['key_metadata'][-1]['key'] = 'more'
  keys = [part['key'] for part in one['key_metadata']]
  metadata['tree_metadata'] = trees | {str(tuple(keys)): one}
  (item / '_METADATA').write_text(json.dumps(metadata))
  store = hostile.stored(item)
  array = {
    'chunks': [10**12],
    'compressor': None,
    'dimension_separator': '.',
    'dtype': '<f4',
    'fill_value': 0,
    'filters': None,
    'order': 'C',
    'shape': [10**12],
    'zarr_format': 2,
  }
  path = '.'.join(keys)
  store.write(f'{path}/.zarray', json.dumps(array)).result()
  store.write(f'{path}/0', b'1234').result()
  with pytest.raises(CheckpointError, match='structures do not match'):
    load_model(signed(run))


def test_arrays_that_become_far_more_are_not_decoded(run):
  keys = hostile.stored(run / 'checkpoints' / '1' / 'variables')
  name = next(k for k in keys.list().result() if k.endswith(b'/0'))
  keys.write(name, hostile.flooded('zstd')).result()
  with pytest.raises(CheckpointError, match='and 32 are expected'):
    load_model(signed(run))


def test_nor_are_the_nodes_that_lead_to_them(run):
  path = run / 'checkpoints' / '1' / 'variables' / 'd' / 'node'
  path.write_bytes(hostile.node(hostile.flooded('zstd', 2**20)))
  load_model(signed(run))
  path.write_bytes(hostile.node(hostile.flooded('zstd', 2**27)))
  with pytest.raises(CheckpointError, match='bytes of zstd would become'):
    load_model(signed(run))


CONFIGS = [
  '[' * 10**5,
  '{"model": {"width": ' + '9' * 400 + '}}',
  '{"model": {"width": ' + '9' * 5000 + '}}',
  '{"model": {"width": 1e9}}',
  '{"model": {"width": NaN}}',
  '{"data": {"channels": 1000000000}}',
  '{"model": {"head_kernel": 1000000000}}',
  '{"model": {"maps": "foreground,foreground"}}',
  '{"model": [1]}',
  '{"model": null}',
  '{"model": {"width": [[[]]]}}',
  '{"' + 'x' * 10**6 + '": {}}',
  '{"__class__": {"__init__": 1}}',
  '{"model": {"__class__": 1}}',
  '[]',
  'null',
  '',
  '\x00',
]


@pytest.mark.parametrize('text', CONFIGS)
def test_configs_are_refused_with_the_file_and_in_few_words(run, text):
  (run / 'config.json').write_text(text)
  with pytest.raises(ConfigError) as error:
    load_model(run)
  assert str(run / 'config.json') in str(error.value)
  assert len(str(error.value)) < 2000


@pytest.mark.parametrize(
  'content', [b'\xff\xfe', b'!!python/object/apply:os.system ["true"]']
)
def test_bytes_and_yaml_are_no_config(run, content):
  (run / 'config.json').write_bytes(content)
  with pytest.raises(ConfigError):
    load_model(run)


def test_a_model_whose_images_are_elsewhere_is_loaded(run):
  values = json.loads((run / 'config.json').read_text())
  values['data'] |= {'dataset': 'labelled_folder', 'path': ''}
  (run / 'config.json').write_text(json.dumps(values))
  load_model(run)


def test_pipes_are_refused_and_not_waited_for(run):
  path = run / 'config.json'
  text = path.read_text()
  path.unlink()
  os.mkfifo(path)
  with pytest.raises(ConfigError, match='is no file'):
    load_model(run)
  path.unlink()
  path.write_text(text)
  step = run / 'checkpoints' / '1'
  os.mkfifo(step / 'pipe')
  with pytest.raises(CheckpointError, match='neither file nor folder'):
    load_model(run)
  (step / 'pipe').unlink()
  (step / 'manifest.json').unlink()
  os.mkfifo(step / 'manifest.json')
  with pytest.raises(CheckpointError, match='is missing'):
    load_model(run)


@pytest.mark.parametrize(
  'text',
  [
    '{"roc_auc": "x", "threshold": []}',
    '{"roc_auc": 0.5, "threshold": ' + '9' * 400 + '}',
    '[1]',
    '3',
    '{',
    '[' * 10**5,
  ],
)
def test_metrics_that_are_no_numbers_are_refused(run, text):
  (run / 'checkpoints' / '1' / 'metrics' / 'metrics').write_text(text)
  with pytest.raises(CheckpointError):
    load_model(signed(run))


def test_the_fixture_is_what_orbax_writes(whole):
  """Else what is changed above would not be what is read."""
  names = {path.name for path in whole.rglob('*')}
  assert {'_METADATA', 'manifest.ocdbt', 'metrics'} <= names
  assert ocp.__name__ == 'orbax.checkpoint'
  assert jax.tree.leaves(load_model(whole).variables)
