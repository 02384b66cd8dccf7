"""The `cellseg` command."""

import argparse
import sys

from cellseg_jax.cli import (
  doctor,
  evaluate,
  export,
  report,
  segment,
  segment_options,
  train,
)


def run() -> int:
  """Runs a sub-command; returns its exit code."""
  if sys.argv[1:2] == ['train']:
    # Its flags are absl's, which argparse would not understand.
    return train.main(['cellseg train', *sys.argv[2:]])
  parser = argparse.ArgumentParser(
    'cellseg', description='Cell segmentation from a few labelled images.'
  )
  commands = parser.add_subparsers(required=True, metavar='COMMAND')
  commands.add_parser(
    'train', help='train a model (see cellseg train --help)', add_help=False
  )
  child = commands.add_parser('segment', help='find the cells in images')
  segment_options.add_arguments(child)
  child.set_defaults(run=segment.run)
  child = commands.add_parser(
    'evaluate', help='compare predicted label images with true ones'
  )
  evaluate.add_arguments(child)
  child.set_defaults(run=evaluate.run)
  child = commands.add_parser(
    'export', help='write a model as a file that runs without this package'
  )
  export.add_arguments(child)
  child.set_defaults(run=export.run)
  child = commands.add_parser(
    'report', help='write a page to look at: of a run, or of segmented files'
  )
  report.add_arguments(child)
  child.set_defaults(run=report.run)
  child = commands.add_parser(
    'doctor', help='look at devices, versions and disk, and try them'
  )
  child.set_defaults(run=doctor.run)
  arguments = parser.parse_args()
  return arguments.run(arguments)
