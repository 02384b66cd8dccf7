"""`cellseg segment`: image files to label images."""

import argparse
import pathlib
import sys
import time

from cellseg_jax.cli.memory import keep_freed_blocks
from cellseg_jax.config import ConfigError


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument(
    '--model',
    required=True,
    action='append',
    metavar='DIR',
    help='folder of a training run; given several times (runs of other seeds), '
    'their predictions are averaged',
  )
  parser.add_argument(
    '--out', required=True, metavar='OUT', help='folder for the label images'
  )
  parser.add_argument(
    '--list-below',
    type=_share,
    default=0.0,
    metavar='P',
    help='list the cells of a confidence below P, 0 to 1',
  )
  parser.add_argument(
    'paths', nargs='+', metavar='PATH', help='images, or folders of images'
  )


def run(arguments: argparse.Namespace) -> int:
  """Writes `OUT/NAME.tif` for every image; prints a line a file.

  Args:
    arguments: As declared by `add_arguments`.

  Returns:
    0; 1 where a file failed; 2 where nothing could be begun.
  """
  keep_freed_blocks()
  # Imported late: `cellseg --help` does not wait for JAX.
  from cellseg_jax.inference import files
  from cellseg_jax.inference.ensemble import ensemble, EnsembleError
  from cellseg_jax.inference.load import load_model
  from cellseg_jax.training.checkpoints import CheckpointError

  try:
    images = files.find_images(arguments.paths)
    out = pathlib.Path(arguments.out)
    targets = files.output_paths(images, out)
    model = ensemble([load_model(folder) for folder in arguments.model])
    out.mkdir(parents=True, exist_ok=True)
  except (
    files.InputError,
    ConfigError,
    CheckpointError,
    EnsembleError,
    OSError,
  ) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  failed = []
  for image, target in zip(images, targets, strict=True):
    start = time.monotonic()
    try:
      confidence = files.segment_file(model, image, target)
    except files.FAULTS as error:
      failed.append(image)
      print(f'{image}: failed: {error}', file=sys.stderr, flush=True)
    else:
      seconds = time.monotonic() - start
      print(
        f'{image} -> {target}: {confidence.size} cells, {seconds:.1f} s',
        flush=True,
      )
      for cell, value in enumerate(confidence, 1):
        if value < arguments.list_below:
          print(f'  label {cell}: confidence {value:.2f}')
  if failed:
    print(
      f'{len(failed)} of {len(images)} images failed: '
      f'{", ".join(map(str, failed))}',
      file=sys.stderr,
    )
  return 1 if failed else 0


def _share(text: str) -> float:
  value = float(text)
  if not 0 <= value <= 1:
    raise argparse.ArgumentTypeError(f'must be 0 to 1, found {text}')
  return value
