"""Trains a cell segmenter: absl flags to a training run. See BUILD.md."""

import pathlib
import sys

from cellseg_jax.cli import train

QUICKSTART = pathlib.Path(__file__).parent / 'experiments' / 'quickstart.py'

if __name__ == '__main__':
  sys.exit(train.main(sys.argv, default=str(QUICKSTART)))
