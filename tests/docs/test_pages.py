"""The code in the documentation is code, and its commands are understood."""

import argparse
import ast
import sys

from pages import blocks, commands, PAGES, ROOT, RUN, SHOWN
import pytest

from cellseg_jax.cli import config_flag, main

NAMES = [str(page.relative_to(ROOT)) for page in PAGES]


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_every_block_says_what_it_is(page):
  """And one that cannot be run says why."""
  for block in blocks(page):
    assert block.language in RUN + SHOWN or block.reason, block.code
    if block.language == 'python':
      ast.parse(block.code)


@pytest.fixture
def understood(monkeypatch):
  """A function that parses the words of a command without running it."""
  parse = argparse.ArgumentParser.parse_args

  def parsed(*arguments):
    found = parse(*arguments)
    found.run = lambda _: 0
    return found

  monkeypatch.setattr(argparse.ArgumentParser, 'parse_args', parsed)
  monkeypatch.chdir(ROOT)

  def check(program, words):
    if program == 'run_train.py' or words[0] == 'train':
      flags = [word for word in words if word != 'train']
      return config_flag.parse([program, *flags], 'quickstart')
    monkeypatch.setattr(sys, 'argv', [program, *words])
    return main.run()

  return check


@pytest.mark.parametrize('page', PAGES, ids=NAMES)
def test_the_commands_are_understood(page, understood):
  for block in blocks(page):
    if block.language == 'bash':
      for words in commands(block.code):
        names = [word.rpartition('/')[2] for word in words]
        for program in {'cellseg', 'run_train.py'} & set(names):
          rest = words[names.index(program) + 1 :]
          understood(program, [word for word in rest if word != '--help'])


def test_the_commands_are_found():
  page = ROOT / 'docs' / 'howto' / 'devices.md'
  found = [words for b in blocks(page) for words in commands(b.code)]
  programs = [word for words in found for word in words if 'cellseg' in word]
  assert programs.count('cellseg') >= 4
  assert ['wait'] in found


def test_a_wrong_command_is_not_understood(understood):
  with pytest.raises(ValueError, match='no such field'):
    understood('cellseg', ['train', '--config.training.stepz=3'])
  with pytest.raises(SystemExit):
    understood('cellseg', ['segment', '--modle', 'runs/cells'])
