"""The `cellseg` command: dispatches to its sub-commands."""

import argparse
import sys

from cellseg_jax.cli import (
  audit,
  cross_validate,
  doctor,
  evaluate,
  export,
  learning_curve,
  report,
  segment,
  segment_options,
  train,
)

# Sub-commands that parse their flags with absl, which argparse cannot.
_TRAINING = {
  'train': (train.main, 'train a model'),
  'cross-validate': (
    cross_validate.main,
    'score each image by a model that was trained on the others',
  ),
  'learning-curve': (
    learning_curve.main,
    'train on more and more images: what would one more bring?',
  ),
  'audit': (
    audit.main,
    'rank cells whose label is likely wrong, and images to label next',
  ),
}


def run() -> int:
  """Runs a sub-command; returns its exit code."""
  name = sys.argv[1] if len(sys.argv) > 1 else ''
  if name in _TRAINING:
    return _TRAINING[name][0]([f'cellseg {name}', *sys.argv[2:]])
  parser = argparse.ArgumentParser(
    'cellseg', description='Cell segmentation from a few labelled images.'
  )
  commands = parser.add_subparsers(required=True, metavar='COMMAND')
  for name, (_, said) in _TRAINING.items():
    commands.add_parser(
      name, help=f'{said} (see cellseg {name} --help)', add_help=False
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
