"""The progress bar: redrawn in a terminal, a line now and then in a log."""

import io
import sys

import pytest
from tqdm.std import tqdm

from cellseg_jax import progress


class Terminal(io.StringIO):
  def isatty(self):
    return True


@pytest.fixture
def clock(monkeypatch):
  """Seconds as the bars see them."""
  now = [1000.0]
  monkeypatch.setattr('tqdm.std.time', lambda: now[0])
  return now


def written(monkeypatch, clock, stream, **options):
  """What is written of 100 units, 10 s each, with a word every unit."""
  monkeypatch.setattr(sys, 'stderr', stream)
  with progress.progress_bar(100, 'training', 'steps', **options) as bar:
    for number in range(100):
      clock[0] += 10
      bar.set_postfix_str(f'loss {number}')
      bar.update()
      if number == 50:
        bar.write('a word', file=stream)
  return stream.getvalue()


def test_a_log_file_has_whole_lines_seldom(monkeypatch, clock):
  text = written(monkeypatch, clock, io.StringIO())
  assert '\r' not in text
  assert '\x1b' not in text
  lines = text.splitlines()
  assert text.endswith('\n')
  assert '' not in lines
  assert 'a word' in lines
  lines.remove('a word')
  assert len(lines) == 1 + 100 * 10 // progress.LOG_EVERY
  assert lines[0].startswith('training: 3/100 steps, 00:30 gone, ')
  assert lines[0].endswith('left, loss 2')
  assert lines[-1].startswith('training: 100/100 steps, 16:40 gone')
  assert lines[-1].endswith('loss 99')


def test_a_terminal_has_one_line_redrawn(monkeypatch, clock):
  text = written(monkeypatch, clock, Terminal())
  assert text.count('\r') > 90
  before, after = text.split('a word')
  assert '\n' not in before
  assert after.count('\n') == 2  # After the word, and at the end.
  assert '100/100' in after


def test_a_log_file_that_has_other_lines_has_none(monkeypatch, clock):
  text = written(monkeypatch, clock, io.StringIO(), lines=False)
  assert text == 'a word\n'


def test_a_notebook_has_its_own(monkeypatch):
  monkeypatch.setitem(sys.modules, 'ipykernel', object())
  made = []
  monkeypatch.setattr(
    progress, 'tqdm_auto', lambda **options: made.append(options)
  )
  monkeypatch.setattr(sys, 'stderr', io.StringIO())
  progress.progress_bar(5, 'training', 'steps', initial=2)
  assert made == [
    {'total': 5, 'desc': 'training', 'unit': 'steps', 'initial': 2}
  ]


def test_closing_twice_writes_once(monkeypatch):
  stream = io.StringIO()
  monkeypatch.setattr(sys, 'stderr', stream)
  bar = progress.progress_bar(5, 'training', 'steps')
  assert isinstance(bar, tqdm)
  bar.update(5)
  bar.close()
  bar.close()
  assert stream.getvalue().count('\n') == 1
