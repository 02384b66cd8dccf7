"""What the commands of studies say of faulty flags, and their help."""

import sys

import pytest
from tiny_sets import write_folder

from cellseg_jax.cli import main

COMMANDS = ('audit', 'cross-validate', 'learning-curve')


def run(monkeypatch, *arguments):
  monkeypatch.setattr(sys, 'argv', ['cellseg', *map(str, arguments)])
  return main.run()


@pytest.mark.parametrize('command', COMMANDS)
def test_help_names_command_flags_and_fields(monkeypatch, capsys, command):
  assert run(monkeypatch, command, '--help') == 0
  said = capsys.readouterr().out
  assert f'usage: cellseg {command} --' in said
  assert '--out=DIR' in said
  assert '--config.data.train_images=' in said


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (['audit'], '--out=DIR is missing'),
    (['audit', '--out=x', '--images=1'], "Unknown command line flag 'images'"),
    (['audit', '--out=x', '--config.data.pth=y'], 'config.data.pth: no such'),
    (['cross-validate', '--out=x', '--workdir=y'], "flag 'workdir'"),
    (['learning-curve', '--out=x'], '--images must list numbers'),
    (['learning-curve', '--out=x', '--images=a'], '--images must list numbers'),
    (['learning-curve', '--out=x', '--images=0'], '--images must list numbers'),
    (['learning-curve', '--out=x', '--images=1', '--seeds=0'], 'seeds'),
  ],
)
def test_faulty_flags_are_refused(monkeypatch, capsys, arguments, expected):
  assert run(monkeypatch, *arguments, '--config.data.path=y') == 2
  said = capsys.readouterr().err
  assert said.startswith('error: ')
  assert expected in said


@pytest.mark.parametrize(
  ('arguments', 'expected'),
  [
    (['audit'], 'at least 3 images with labelled cells, found 2'),
    (['audit', '--unlabelled=none'], 'none: no such folder'),
    (['cross-validate'], 'at least 3 images with labelled cells, found 2'),
    (['learning-curve', '--images=1,2'], '--images asks for 2 of 2 images'),
  ],
)
def test_faulty_data_are_refused(
  monkeypatch, capsys, tmp_path, arguments, expected
):
  folder = write_folder(tmp_path / 'set', ['a', 'b'])
  code = run(
    monkeypatch,
    *arguments,
    f'--out={tmp_path / "out"}',
    f'--config.data.path={folder}',
    f'--config.data.cache={tmp_path / "cache"}',
  )
  assert code == 2
  assert expected in capsys.readouterr().err
