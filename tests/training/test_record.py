"""A run goes on whatever becomes of what only shows it."""

from cellseg_jax.config import Config
from cellseg_jax.training.record import Record


def test_a_report_that_fails_is_told_in_a_line(tmp_path, capsys):
  def report(workdir, evaluated):
    raise ZeroDivisionError(f'{workdir.name} {evaluated}')

  Record(tmp_path / 'run', Config(), {}, report).show('newest')
  (line,) = capsys.readouterr().out.splitlines()
  assert 'no report was written (ZeroDivisionError: run newest)' in line
  assert 'cellseg report' in line


def test_without_a_report_nothing_is_said(tmp_path, capsys):
  Record(tmp_path / 'run', Config(), {}).show('newest')
  assert capsys.readouterr().out == ''
