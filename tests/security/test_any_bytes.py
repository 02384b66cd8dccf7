"""Hypothesis and kept inputs: whatever the bytes, a clean error or none.

`tests/fuzz` holds the targets; run for longer with atheris (SECURITY.md).
"""

import pathlib

from hypothesis import given, settings
from hypothesis import strategies as st
import pytest

from fuzz import config_loader, image_reader, label_checker
from fuzz.take import Take

INPUTS = pathlib.Path(__file__).parents[1] / 'fuzz' / 'inputs'

TARGETS = {
  'image_reader': image_reader,
  'label_checker': label_checker,
  'config_loader': config_loader,
}
few = settings(max_examples=60, deadline=None, database=None)


def damaged(seeds):
  """Bytes of a seed of which some are others, or that end early."""
  pieces = st.tuples(st.integers(0, 2**12), st.binary(max_size=4))

  def change(seed, changes, end):
    content = bytearray(seed)
    for place, piece in changes:
      place %= len(content)
      content[place : place + len(piece)] = piece
    return bytes(content[: len(content) - end])

  return st.builds(
    change,
    st.sampled_from(seeds),
    st.lists(pieces, max_size=3),
    st.sampled_from([0, 0, 0, 1, 40]),
  )


def inputs(target):
  return damaged(list(target.seeds())) | st.binary(max_size=200)


@few
@given(inputs(image_reader))
def test_any_file_is_read_or_refused(data):
  image_reader.one_input(data)


@few
@given(inputs(label_checker))
def test_any_labels_are_checked_or_refused(data):
  label_checker.one_input(data)


@few
@given(inputs(config_loader))
def test_any_config_is_read_or_refused(data):
  config_loader.one_input(data)


@pytest.mark.parametrize('name', TARGETS)
def test_seeds_are_in_order(name):
  for seed in TARGETS[name].seeds():
    TARGETS[name].one_input(seed)


def kept():
  """Inputs that once gave something else than a clean error."""
  return sorted(INPUTS.glob('*/*'))


@pytest.mark.parametrize('path', kept(), ids=lambda path: path.name)
def test_inputs_that_were_bugs_are_none(path):
  TARGETS[path.parent.name].one_input(path.read_bytes())


def test_choices_come_from_any_bytes():
  take = Take(b'\x05\x01\x02abc')
  assert (take.number(4), take.number(300), take.piece(2)) == (1, 213, b'ab')
  assert (take.rest(), take.number(9), take.choice('xy')) == (b'c', 0, 'x')
