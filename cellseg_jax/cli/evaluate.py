"""`cellseg evaluate`: compares predicted label images with true ones."""

import argparse
import json
import pathlib
import sys
from typing import Any

from cellseg_jax.cli.segment_options import positive

# IoU thresholds at which metrics are printed; --json has all thresholds.
IOU_PRINTED = ('0.5', '0.7', '0.8', '0.9')


class PairingError(ValueError):
  """The label images of two folders do not fit each other."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument(
    '--labels', required=True, metavar='DIR', help='folder of true labels'
  )
  parser.add_argument(
    '--predictions',
    required=True,
    metavar='DIR',
    help='folder of predicted labels, of the same file names',
  )
  parser.add_argument(
    '--images', metavar='DIR', help='folder of images to draw the errors on'
  )
  parser.add_argument(
    '--pictures',
    metavar='DIR',
    help='folder for the pictures of the errors (default: errors/ in the '
    'folder of predictions)',
  )
  parser.add_argument(
    '--max-pixels',
    type=positive,
    metavar='N',
    help='most values of an image (default: 2^30)',
  )
  parser.add_argument(
    '--json', metavar='FILE', help='where to write all metrics'
  )


def run(arguments: argparse.Namespace) -> int:
  """Prints the metrics, per image and pooled, and draws the errors.

  Args:
    arguments: The arguments that `add_arguments` declares.

  Returns:
    The exit code, which is 0, or 2 if the folders do not fit each other or a
    file is faulty.
  """

  try:
    report = evaluate_folders(arguments)
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  if arguments.json:
    text = json.dumps(report, indent=1) + '\n'
    pathlib.Path(arguments.json).write_text(text)
  return 0


def evaluate_folders(arguments: argparse.Namespace) -> dict[str, Any]:
  """Compares the label images of two folders.

  Args:
    arguments: The arguments that `add_arguments` declares.

  Returns:
    `pooled`, the metrics of all images together, and `images`, those of each
    image by name.

  Raises:
    PairingError: The label images of the folders do not fit each other.
    ImageFileError, ValueError, OSError: A file cannot be read or written.
  """
  # Imported late, so that `cellseg --help` does not wait for it.
  from cellseg_jax.atomic import replacing
  from cellseg_jax.evaluation import scores
  from cellseg_jax.evaluation.error_pictures import COLOUR_NAMES, draw_errors
  from cellseg_jax.images import formats
  from cellseg_jax.images.errors import MAX_PIXELS
  from cellseg_jax.inside import inside

  most = arguments.max_pixels or MAX_PIXELS
  pairs = pair_by_name(
    pathlib.Path(arguments.labels), pathlib.Path(arguments.predictions)
  )
  # In a folder from somebody else, errors/ may be a link that leads elsewhere.
  root, place = arguments.pictures or arguments.predictions, pathlib.Path()
  if not arguments.pictures:
    place = pathlib.Path('errors')
  folder = pathlib.Path(root) / place
  images = {}
  if arguments.images:
    listed = formats.list_images(pathlib.Path(arguments.images))
    images = {path.stem: path for path in listed}
  folder.mkdir(parents=True, exist_ok=True)
  counts, report = [], {}
  for true_path, predicted_path in pairs:
    name = true_path.stem
    true, predicted = (
      formats.read_labels(path, max_pixels=most)
      for path in (true_path, predicted_path)
    )
    if true.shape != predicted.shape:
      raise PairingError(
        f'{predicted_path} is {predicted.shape}, {true_path} {true.shape}'
      )
    counts.append(scores.count(true, predicted))
    report[name] = scores.metrics(counts[-1])
    print(_line(name, report[name]), flush=True)
    image = None
    if name in images:
      image = formats.read_image(images[name], max_pixels=most)
    picture = draw_errors(true, predicted, image)
    with replacing(inside(root, place / f'{name}.png')) as partial:
      formats.write_picture(partial, picture)
  pooled: dict[str, Any] = scores.metrics(scores.pool(counts))
  print(_line(f'all {len(pairs)}', pooled))
  for name in ('precision', 'recall', 'ap'):
    print(f'{name}: {_at(pooled[name])}')
  others = ('mean_ap', 'pq', 'seg', 'det', 'aji', 'boundary_f1', 'dice')
  print(', '.join(f'{name} {pooled[name]:.4f}' for name in others))
  key = ', '.join(f'{kind} {name}' for kind, name in COLOUR_NAMES.items())
  print(f'Pictures of the errors: {folder} ({key})')
  return {'pooled': pooled, 'images': report}


def pair_by_name(
  labels: pathlib.Path, predictions: pathlib.Path
) -> list[tuple[pathlib.Path, pathlib.Path]]:
  """Pairs the label images of two folders by file name without suffix.

  Raises:
    ImageFileError: A folder does not exist.
    PairingError: There is no true label image, or one has no prediction.
  """
  from cellseg_jax.images import formats

  true = formats.list_images(labels)
  predicted = {path.stem: path for path in formats.list_images(predictions)}
  if not true:
    raise PairingError(f'{labels}: no label image in this folder')
  absent = [path.name for path in true if path.stem not in predicted]
  if absent:
    raise PairingError(
      f'{predictions}: no prediction for {len(absent)} of {len(true)} label '
      f'images: {", ".join(absent)}'
    )
  return [(path, predicted[path.stem]) for path in true]


def _line(name: str, values: dict[str, Any]) -> str:
  errors = ', '.join(
    f'{kind} {values[kind]}' for kind in ('merged', 'split', 'missed', 'extra')
  )
  return (
    f'{name}: true {values["true"]}, predicted {values["predicted"]}, '
    f'f1 {_at(values["f1"])}, {errors}'
  )


def _at(values: dict[str, float]) -> str:
  return ' '.join(f'{values[iou]:.4f}@{iou}' for iou in IOU_PRINTED)
