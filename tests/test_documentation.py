"""What the documentation lists is what there is."""

import argparse
import pathlib
import re

from cellseg_jax.cli import segment_options
from cellseg_jax.images import selection
from cellseg_jax.images.cells import columns
from cellseg_jax.inference.outputs import EXTRAS

ROOT = pathlib.Path(__file__).parents[1]
PAGE = (ROOT / 'docs' / 'segment.md').read_text()


def test_every_column_of_the_table_is_documented():
  rows = re.findall(r'^\| `(\w+)` \| (.*) \| (.*) \|$', PAGE, re.MULTILINE)
  assert rows == [(c.name, c.unit, c.meaning) for c in columns(1)]


def test_every_option_is_documented_and_there():
  parser = argparse.ArgumentParser()
  segment_options.add_arguments(parser)
  options = {
    option
    for action in parser._actions
    for option in action.option_strings
    if option.startswith('--') and option != '--help'
  }
  readme = (ROOT / 'README.md').read_text()
  assert options <= set(re.findall(r'--[a-z-]+', PAGE + readme))
  assert set(re.findall(r'`(--[a-z-]+)', PAGE)) <= options


def test_the_command_offers_what_the_package_has():
  assert segment_options._RGB == selection.RGB_MODES
  assert set(segment_options._EXTRAS) == set(EXTRAS)
