"""Ratios and tables from figures made up; calls in processes of their own."""

import functools
import math
import os
import pathlib
import subprocess
import sys

import pytest

from benchmarks import side_by_side
from benchmarks.side_by_side import Timing


def count_calls(path):
  """Makes a call that leaves a letter in a file each time."""

  def call():
    with open(path, 'a') as file:
      file.write('x')

  return call


def fail():
  raise ModuleNotFoundError('No module named such')


def die():
  os._exit(3)


def test_every_alternative_is_called_in_every_round(tmp_path, monkeypatch):
  makes = {
    name: functools.partial(count_calls, tmp_path / name) for name in 'ab'
  }
  timings = side_by_side.compare(makes, rounds=3)
  for name, timing in timings.items():
    assert not timing.failed
    assert len(timing.seconds) == 3
    assert timing.median > 0
    assert timing.peak > 1e6
    # A first call and one to see how long it takes, then the rounds.
    assert len((tmp_path / name).read_text()) >= 5


def test_what_cannot_run_says_why_and_the_others_run(tmp_path):
  makes = {
    'a': functools.partial(count_calls, tmp_path / 'a'),
    'missing': fail,
    'dies': die,
  }
  timings = side_by_side.compare(makes, rounds=1)
  assert (
    timings['missing'].failed == 'ModuleNotFoundError: No module named such'
  )
  assert timings['dies'].failed == 'its process ended'
  assert math.isnan(timings['dies'].median)
  assert len(timings['a'].seconds) == 1


def test_ratios_are_taken_within_rounds():
  ours = Timing(seconds=(1.0, 2.0, 30.0))
  theirs = Timing(seconds=(2.0, 4.0, 60.0))
  assert side_by_side.ratio(ours, theirs) == (0.5, 0.5, 0.5)
  median, low, high = side_by_side.ratio(ours, Timing(seconds=(1.0, 1.0, 1.0)))
  assert (median, low, high) == (2, 1.5, 16)
  assert all(math.isnan(r) for r in side_by_side.ratio(ours, Timing()))


def test_the_table_names_times_memory_and_ratios():
  timings = {
    'ours': Timing((1.0, 1.0), first=3.0, peak=2_000_000),
    'theirs': Timing((2.0, 4.0), first=1.5, peak=5_000_000),
    'gone': Timing(failed='ImportError: no'),
  }
  lines = side_by_side.table(timings, ['ours']).splitlines()
  assert lines[0] == '|  | s | first call, s | peak, MB | ours, times |'
  assert lines[2] == '| ours | 1.000 | 3.0 | 2 |  |'
  assert lines[3] == '| theirs | 3.000 | 1.5 | 5 | 0.38 (0.31-0.44) |'
  assert lines[4] == '| gone | not run: ImportError: no |'


def test_memory_is_the_largest_that_a_process_had():
  before, after = _in_a_process_of_its_own(
    'before = peak_memory()',
    "block = b'x' * (256 << 20)",
    'del block',
    'print(before, peak_memory())',
  )
  assert after - before == pytest.approx(256 << 20, rel=0.1)


def _in_a_process_of_its_own(*lines):
  """Returns the numbers it prints; here other tests took more before."""
  said = subprocess.run(
    [
      sys.executable,
      '-c',
      '\n'.join(('from benchmarks.side_by_side import peak_memory', *lines)),
    ],
    cwd=pathlib.Path(__file__).parents[1],
    check=True,
    capture_output=True,
    text=True,
  )
  return map(int, said.stdout.split())
