"""The command of a run gives its configuration again."""

import shlex

import pytest

from cellseg_jax import serialization
from cellseg_jax.cli import config_flag
from cellseg_jax.experiments import EXPERIMENTS
from cellseg_jax.report.repeat import command


@pytest.mark.parametrize('name', EXPERIMENTS)
def test_the_command_gives_the_config(name, tmp_path):
  config = serialization.replace(
    EXPERIMENTS[name](),
    data={
      'dataset': 'labelled_folder',
      'path': "my 'cells' $HOME",
      'resample': 1 / 3,
    },
    augmentation={'roll': False},
    optimizer={'centered': True},
  )
  text = command(config, tmp_path / 'my run')
  assert f'--config={name}' in text
  words = shlex.split(text.replace('\\\n', ''))
  assert words[:2] == ['cellseg', 'train']
  found = config_flag.parse(words[1:], 'quickstart')
  assert found.config == config
  assert found.workdir == tmp_path / 'my run'
