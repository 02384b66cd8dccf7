"""`cellseg report`: writes a report on a training run or segmented files."""

import argparse
import pathlib
import sys

from cellseg_jax.cli import process


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  which = parser.add_mutually_exclusive_group(required=True)
  which.add_argument(
    'run_folder',
    nargs='?',
    metavar='DIR',
    help='folder of a training run; the page is DIR/report/index.html',
  )
  which.add_argument(
    '--predictions',
    metavar='OUT',
    help='folder that cellseg segment wrote; the page is OUT/report/index.html',
  )


def run(arguments: argparse.Namespace) -> int:
  """Writes the page and prints its path.

  Args:
    arguments: The arguments that `add_arguments` declares.

  Returns:
    The exit code, which is 0, or 2 if there is nothing to report on or the page
    cannot be written.
  """
  process.prepare()
  # Imported late, so that `cellseg --help` does not wait for it.
  from cellseg_jax.report.predictions import report_predictions
  from cellseg_jax.report.run import report_run

  try:
    if arguments.predictions:
      path = report_predictions(pathlib.Path(arguments.predictions))
    else:
      path = report_run(pathlib.Path(arguments.run_folder))
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  print(f'Report: {path}')
  return 0
