"""The configuration: typed, refused by name, JSON both ways."""

import importlib.util
import json
import math
import pathlib

import pytest

from cellseg_jax import experiments, serialization
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.serialization import replace
from cellseg_jax.validation import DATASETS, validate

ROOT = pathlib.Path(__file__).parents[1]
DEFAULTS = serialization.flat(Config())
NUMBERS = [f for f, value in DEFAULTS.items() if type(value) in (int, float)]
FLOATS = [f for f, value in DEFAULTS.items() if type(value) is float]


def changed(field, value, **others):
  """The default configuration with `part.field` at `value`."""
  part, name = field.split('.')
  return replace(Config(), **({part: {name: value}} | others))


def test_json_holds_every_field(tmp_path):
  config = replace(
    Config(),
    data={'path': 'ä/b', 'held_out': 2},
    augmentation={'flip': False},
    optimizer={'learning_rate': 3e-4},
  )
  serialization.save(config, tmp_path / 'config.json')
  assert serialization.load(tmp_path / 'config.json') == config
  values = json.loads((tmp_path / 'config.json').read_text())
  assert values['optimizer']['learning_rate'] == 3e-4
  assert serialization.from_dict(values) == config


def test_absent_fields_are_defaults():
  config = serialization.from_dict({'training': {'steps': 7}})
  assert config == replace(Config(), training={'steps': 7})
  assert serialization.from_dict({}) == Config()


def test_flat_names_each_field_once():
  assert DEFAULTS['training.batch_size'] == 8
  values = serialization.to_dict(Config())
  assert len(DEFAULTS) == sum(len(fields) for fields in values.values())


def test_equal_configs_are_one_key():
  """So that a config can be a static argument of a compiled function."""
  one, same = (changed('training.steps', 70) for _ in range(2))
  assert one is not same
  assert {one: 'found'}[same] == 'found'
  assert hash(one) != hash(Config())
  with pytest.raises(AttributeError):
    one.training.steps = 3


@pytest.mark.parametrize(
  ('parts', 'message'),
  [
    (
      {'optimiser': {}},
      r'config\.optimiser: no such field; did you mean config\.optimizer\?',
    ),
    (
      {'training': {'stpes': 3}},
      r'training\.stpes: no such field; did you mean config\.training\.steps\?',
    ),
    ({'data': {'xyzzy': 3}}, r'data\.xyzzy: no such field \(there are: data'),
  ],
)
def test_unknown_names_are_refused_with_the_closest(parts, message):
  with pytest.raises(ConfigError, match=message):
    serialization.from_dict(parts)
  with pytest.raises(ConfigError, match=message):
    replace(Config(), **parts)


def test_a_part_must_hold_fields():
  with pytest.raises(ConfigError, match=r'config\.data must hold fields'):
    serialization.from_dict({'data': 'a folder'})


WRONG = {
  int: (1.5, 2.0, '3', True, None),
  float: ('3', True, None, [1.0]),
  bool: (1, 0.0, 'true', None),
  str: (3, None, True),
}


@pytest.mark.parametrize('field', DEFAULTS)
def test_every_field_refuses_other_types(field):
  kind = type(DEFAULTS[field])
  for value in WRONG[kind]:
    with pytest.raises(ConfigError) as error:
      changed(field, value)
    assert f'config.{field} must be of type {kind.__name__}' in str(error.value)
    assert repr(value) in str(error.value)


def test_an_integer_passes_for_a_float():
  value = changed('optimizer.learning_rate', 1).optimizer.learning_rate
  assert type(value) is float
  assert value == 1


@pytest.mark.parametrize('text', ['', '{"data"', '[1]', '{"data": {"x": 1}}'])
def test_a_faulty_file_is_named(tmp_path, text):
  path = tmp_path / 'config.json'
  path.write_text(text)
  with pytest.raises(ConfigError, match=r'config\.json: '):
    serialization.load(path)


def refusal(config):
  with pytest.raises(ConfigError) as error:
    validate(config)
  return str(error.value)


def test_the_default_is_valid():
  validate(Config())


@pytest.mark.parametrize('field', NUMBERS)
def test_every_number_has_a_least_value(field):
  assert f'config.{field} ' in refusal(
    changed(field, type(DEFAULTS[field])(-1e9))
  )


@pytest.mark.parametrize('field', FLOATS)
def test_no_number_may_be_nan(field):
  assert f'config.{field} ' in refusal(changed(field, math.nan))


@pytest.mark.parametrize(
  ('field', 'value', 'allowed'),
  [
    ('optimizer.learning_rate', -1e-3, '1e-12 to 10'),
    ('optimizer.learning_rate', 0.0, '1e-12 to 10'),
    ('optimizer.learning_rate', math.inf, '1e-12 to 10'),
    ('optimizer.decay', 1.5, '0 to 0.99999'),
    ('optimizer.warmup_fraction', 1.5, '0 to 1'),
    ('training.steps', 0, 'at least 1'),
    ('optimizer.momentum', 1.0, '0 to 0.99999'),
    ('training.batch_size', 0, 'at least 1'),
    ('training.log_every', 0, 'at least 1'),
    ('training.seed', 2**32, '0 to 4294967295'),
    ('training.crop_size', 100, 'the nearest are 96 and 128'),
    ('training.crop_size', 16, '32 to 4096'),
    ('training.best_metric', 'loss', 'roc_auc, f1, mean_f1, dice'),
    ('model.maps', 'foreground,border', 'distance, centre'),
    ('model.maps', 'distance', 'distance, centre'),
    ('model.maps', 'foreground,distance', "'skips'"),
    ('decoding.method', 'ascent', 'foreground,distance,centre'),
    ('decoding.method', 'watershed', 'components, ascent'),
    ('decoding.objective', 'iou', 'f1, mean_f1'),
    ('model.head_kernel', 48, 'the nearest are 32 and 64'),
    ('model.head_kernel', 512, '32 to 256'),
    ('model.normalization', 'layer', 'none, lrn, batch'),
    ('model.head_init', 'zeros', 'random, bilinear'),
    ('decoding.centre_share', -0.5, '-1, which lets it be chosen, or 0 to 1'),
    ('decoding.confidence', -0.1, '-1, which lets it be chosen, or 0 to 1'),
    ('model.width', 0.0, '0.05 to 4'),
    ('data.dataset', 'mnist', 'simulated_colonies, labelled_folder'),
    ('data.binary_labels', 'guess', 'refuse, components'),
    ('data.channels', 0, '1 to 64'),
    ('data.ignore_value', -2, '-1 to 4294967295'),
    ('data.resample', 0.0, '0.05 to 8'),
    ('intensity.low_percentile', 99.9, 'below config.intensity.high_perc'),
    ('intensity.high_percentile', 101.0, '0 to 100'),
    ('augmentation.scale', 0.5, '1 to 4'),
    ('augmentation.gamma', 0.0, '1 to 8'),
    ('targets.edge_weight', -1.0, '0 to 1000.0'),
    ('decoding.threshold', 1.5, '0 to 1'),
  ],
)
def test_impossible_values_are_refused_by_name(field, value, allowed):
  message = refusal(changed(field, value))
  assert f'config.{field}' in message
  assert allowed in message
  assert str(value) in message


def test_bilinear_upsampling_needs_the_head_that_upsamples():
  bilinear = replace(Config(), model={'head_init': 'bilinear'})
  validate(bilinear)
  assert "'transposed'" in refusal(replace(bilinear, model={'head': 'skips'}))
  assert 'at least 64' in refusal(replace(bilinear, model={'head_kernel': 32}))


@pytest.mark.parametrize('dataset', DATASETS[1:])
def test_sets_from_files_need_a_path(dataset):
  message = refusal(changed('data.dataset', dataset))
  assert 'config.data.path must name a folder' in message
  assert dataset in message
  validate(replace(Config(), data={'dataset': dataset, 'path': 'somewhere'}))


@pytest.mark.parametrize('name', experiments.EXPERIMENTS)
def test_experiments_are_valid(name):
  config = experiments.EXPERIMENTS[name]()
  if config.data.dataset == 'labelled_folder':
    assert 'config.data.path must name a folder' in refusal(config)
    config = replace(config, data={'path': 'cells'})
  validate(config)


def test_quickstart_suits_up_to_eight_devices():
  run = experiments.quickstart().training
  for devices in (1, 2, 4, 8):
    assert run.batch_size % devices == 0


def test_the_case_study_is_the_method_as_published():
  config = experiments.case_study()
  assert config.model.width == 1
  assert config.model.head_kernel == 96
  move = config.augmentation
  assert (move.roll, move.flip, move.rotate) == (True, True, True)
  off = (move.scale, move.elastic, move.gain, move.offset, move.gamma)
  assert off == (1, 0, 1, 0, 1)
  assert config.targets.edge_weight > 1
  assert config.targets.edge_width >= 1
  assert config.optimizer.final_fraction == 0
  with_path = replace(config, data={'path': ''})
  assert 'config.data.path' in refusal(with_path)


def experiment_file(name):
  path = ROOT / 'experiments' / f'{name}.py'
  spec = importlib.util.spec_from_file_location(name, path)
  module = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(module)
  return module


@pytest.mark.parametrize('name', experiments.EXPERIMENTS)
def test_experiment_files_return_what_the_package_holds(name):
  module = experiment_file(name)
  assert module.get_config() == experiments.EXPERIMENTS[name]()


def test_the_ablation_changes_one_part_of_cells_at_a_time():
  ablation = experiment_file('ablation')
  assert ablation.get_config() == experiments.cells()
  configs = {ablation.get_config(part) for part in ablation.PARTS}
  assert len(configs) == len(ablation.PARTS)
  for config in configs:
    validate(replace(config, data={'path': 'somewhere'}))
  with pytest.raises(ValueError, match="no part 'wings'; there are all, no_"):
    ablation.get_config('wings')


def test_no_other_experiment_has_a_file():
  files = {path.stem for path in (ROOT / 'experiments').glob('*.py')}
  assert files == {*experiments.EXPERIMENTS, 'ablation'}
