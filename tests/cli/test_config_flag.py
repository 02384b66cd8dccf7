"""Flags of a training run: all of them right, or refused in a sentence."""

import os
import pathlib
import re
import subprocess
import sys
import textwrap

from absl import flags
import pytest

from cellseg_jax import experiments
from cellseg_jax.cli import config_flag, train
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.serialization import replace

ROOT = pathlib.Path(__file__).parents[2]


def parse(*arguments, default='quickstart'):
  return config_flag.parse(['prog', *arguments], default)


def experiment(folder, body, name='mine.py'):
  path = folder / name
  path.write_text(
    'from cellseg_jax.config import *\n'
    f'def get_config():\n{textwrap.indent(body, "  ")}\n'
  )
  return path


def test_without_flags_the_default_runs():
  config, workdir, *_ = parse()
  assert config == experiments.quickstart()
  assert workdir == pathlib.Path('runs/quickstart')


def test_a_config_by_name_and_by_file(tmp_path):
  config, workdir, *_ = parse('--config=case_study', '--config.data.path=cells')
  assert config == replace(experiments.case_study(), data={'path': 'cells'})
  assert workdir == pathlib.Path('runs/case_study')
  path = experiment(
    tmp_path, 'return Config(training=TrainingConfig(steps=70))'
  )
  config, workdir, *_ = parse(f'--config={path}')
  assert config == replace(Config(), training={'steps': 70})
  assert workdir == pathlib.Path('runs/mine')
  assert parse('--config', str(path))[0] == config


def test_a_file_may_hold_variants():
  path = ROOT / 'experiments' / 'ablation.py'
  fields = ('--config.data.path=cells',)
  config, workdir, *_ = parse(f'--config={path}:no_scale', *fields)
  assert config == replace(
    experiments.cells(), data={'path': 'cells'}, augmentation={'scale': 1.0}
  )
  assert workdir == pathlib.Path('runs/ablation-no_scale')
  assert parse(f'--config={path}', *fields)[0] == replace(
    experiments.cells(), data={'path': 'cells'}
  )
  with pytest.raises(ConfigError, match=r"no part 'scale'; there are all, no_"):
    parse(f'--config={path}:scale', *fields)


@pytest.mark.parametrize(
  ('body', 'message'),
  [
    ('return {}["steps"]', "get_config() failed: KeyError: 'steps'"),
    ('import no_such_module', "ModuleNotFoundError: No module named 'no_such_"),
    ('raise ConfigError("too many steps")', 'mine.py: too many steps'),
    ('return Config().training.stpes', "AttributeError: 'TrainingConfig' obj"),
  ],
)
def test_a_file_that_fails_is_refused_in_one_line(tmp_path, body, message):
  path = experiment(tmp_path, body)
  with pytest.raises(ConfigError, match=re.escape(message)) as caught:
    parse(f'--config={path}')
  assert str(caught.value).count(str(path)) == 1
  assert '\n' not in str(caught.value)


def test_a_file_without_get_config_is_refused(tmp_path):
  path = tmp_path / 'mine.py'
  path.write_text('config = 5\n')
  with pytest.raises(ConfigError, match=r'mine\.py: the file defines no get_'):
    parse(f'--config={path}')


def test_an_unknown_variant_is_refused_in_one_line():
  path = ROOT / 'experiments' / 'ablation.py'
  with pytest.raises(ConfigError) as caught:
    parse(f'--config={path}:wings')
  assert re.fullmatch(
    r"--config=\S+:wings: no part 'wings'; there are all, no_rotation, .*",
    str(caught.value),
  )


def test_the_workdir_is_taken_as_given():
  assert parse('--workdir=a/b')[1] == pathlib.Path('a/b')
  assert parse('--workdir', '/c')[1] == pathlib.Path('/c')


def test_fields_of_every_type_are_set():
  config, *_ = parse(
    '--config.training.steps=70',
    '--config.optimizer.learning_rate=3e-4',
    '--config.augmentation.scale=2',
    '--config.augmentation.flip=false',
    '--noconfig.augmentation.roll',
    '--config.optimizer.centered',
    '--config.data.cache=some/where',
  )
  assert config == replace(
    experiments.quickstart(),
    training={'steps': 70},
    optimizer={'learning_rate': 3e-4, 'centered': True},
    augmentation={'scale': 2.0, 'flip': False, 'roll': False},
    data={'cache': 'some/where'},
  )
  assert type(config.augmentation.scale) is float


def test_a_value_may_follow_a_space():
  config, *_ = parse('--config.training.steps', '70')
  assert config.training.steps == 70


def test_overrides_do_not_outlive_a_call():
  assert parse('--config.training.steps=70')[0].training.steps == 70
  assert parse()[0] == experiments.quickstart()


def test_a_default_file_is_found_from_any_folder(tmp_path):
  code = (
    'import sys; from cellseg_jax.cli import config_flag as c; '
    'print(*c.parse(["prog"], sys.argv[1])[:2])'
  )
  result = subprocess.run(
    [sys.executable, '-c', code, ROOT / 'experiments' / 'quickstart.py'],
    cwd=tmp_path,
    capture_output=True,
    text=True,
    check=True,
    env={'PYTHONPATH': str(ROOT)},
  )
  expected = f'{experiments.quickstart()} runs/quickstart\n'
  assert result.stdout == expected


FAULTS = [
  (['--config.training.stpes=1'], r'did you mean config\.training\.steps\?'),
  (['--config.trainig.steps=1'], r'did you mean config\.training\?'),
  (['--config.training.stpes', '1'], r'did you mean config\.training\.steps'),
  (['--noconfig.augmentation.flop'], r'mean config\.augmentation\.flip\?'),
  (['--config.training=1'], r'config\.training is a group .*training\.steps'),
  (['--config.training.steps=many'], r'config\.training\.steps=many'),
  (['--config.training.steps=1.5'], r'config\.training\.steps=1\.5'),
  (['--config.training.steps=1e3'], r'config\.training\.steps=1e3'),
  (['--config.training.steps='], r'config\.training\.steps='),
  (['--config.training.steps'], r'config\.training\.steps'),
  (['--config.optimizer.learning_rate=x'], r'config\.optimizer\.learning_rat'),
  (['--config.augmentation.flip=maybe'], r'config\.augmentation\.flip=maybe'),
  (['--config.training.crop_size=100'], r'crop_size .* 96 and 128'),
  (['--config=absent.py'], r'absent\.py: no such file; .*quickstart, case_st'),
  (['--config='], r'--config=: no such file'),
  (['--config'], r'--config'),
  (['absent.py'], r"unexpected argument 'absent\.py'"),
  (['--config.augmentation.flip', 'false'], r"unexpected argument 'false'"),
  (['--', '--config.training.steps=70'], r'unexpected argument'),
  (['--wrokdir=x'], r"Unknown command line flag 'wrokdir'"),
  (
    ['--config.training.steps=70', '--config=case_study'],
    r'--config\.training\.steps=70 .*before .*--config',
  ),
]


@pytest.mark.parametrize(('arguments', 'message'), FAULTS)
def test_faulty_flags_are_refused(arguments, message):
  with pytest.raises((ConfigError, flags.Error), match=message):
    parse(*arguments)


def test_a_file_must_return_a_config(tmp_path):
  path = experiment(tmp_path, 'return 5')
  with pytest.raises(ConfigError, match=r'mine\.py: .* must return .* found i'):
    parse(f'--config={path}')


@pytest.mark.parametrize(('arguments', 'message'), FAULTS)
def test_the_command_says_so_and_touches_nothing(
  tmp_path, monkeypatch, capsys, arguments, message
):
  monkeypatch.chdir(tmp_path)
  assert train.main(['prog', '--workdir=run', *arguments]) == 2
  stdout, stderr = capsys.readouterr()
  assert stderr.startswith('error: ')
  assert stderr.count('\n') <= 2
  assert not stdout
  assert not list(tmp_path.iterdir())


def test_help_lists_every_field_as_the_experiment_has_it(capsys):
  assert train.main(['prog', '--help']) == 0
  text = capsys.readouterr().out
  assert '--config.training.crop_size=128' in text
  assert text.count('--config.') > 50
  assert train.main(['prog', '--config=cells', '--help']) == 0
  rate = experiments.cells().optimizer.learning_rate
  assert f'--config.optimizer.learning_rate={rate}' in capsys.readouterr().out


def test_help_that_is_not_read_to_its_end_is_no_fault():
  reader, writer = os.pipe()
  os.close(reader)
  with os.fdopen(writer, 'wb') as gone:
    found = subprocess.run(
      [sys.executable, 'run_train.py', '--help'],
      stdout=gone,
      stderr=subprocess.PIPE,
      cwd=ROOT,
    )
  assert found.returncode == 0
  assert not found.stderr


def test_processes_are_named_or_asked_for():
  assert parse().processes == ()
  assert parse('--distributed').processes == (None, None, None)
  three = ('--coordinator_address=a:1', '--num_processes=4', '--process_id=2')
  assert parse(*three).processes == ('a:1', 4, 2)
  for some in (three[:2], three[1:], three[2:]):
    with pytest.raises(ConfigError, match='go together'):
      parse(*some)
