"""`cellseg segment`: image files to label images, tables and pictures."""

import argparse
from collections.abc import Sequence
import pathlib
import sys

from cellseg_jax.cli.memory import keep_freed_blocks
from cellseg_jax.config import ConfigError

# Kept from the imports that take seconds, so that --help does not wait.
_RGB = ('luminance', 'mean', 'red', 'green', 'blue')
_EXTRAS = ('overlay', 'probability', 'roi', 'geojson', 'coco')

INTERRUPTED = 130  # As shells have it: 128 and the number of SIGINT.


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
    '--out', required=True, metavar='OUT', help='folder for the outputs'
  )
  parser.add_argument(
    'paths',
    nargs='+',
    metavar='PATH',
    help='images, folders of images, or OME-Zarr folders',
  )
  _add_reading(parser.add_argument_group('what is read of a file'))
  _add_filters(parser.add_argument_group('which cells are kept'))
  group = parser.add_argument_group('what is written and shown')
  group.add_argument(
    '--format',
    choices=('tif', 'zarr'),
    default='tif',
    help='of the label images (default: tif)',
  )
  group.add_argument(
    '--save',
    type=_extras,
    default=(),
    metavar='KIND,...',
    help=f'also write, by file: {", ".join(_EXTRAS)}',
  )
  group.add_argument(
    '--list-below',
    type=_share,
    default=0.0,
    metavar='P',
    help='list the cells of a confidence below P, 0 to 1',
  )
  group.add_argument(
    '--shard',
    type=_shard,
    default=(1, 1),
    metavar='i/n',
    help='do only every n-th file from the i-th on, as one of n jobs',
  )


def _add_reading(group: argparse._ArgumentGroup) -> None:
  group.add_argument(
    '--axes',
    type=str.upper,
    metavar='A',
    help='axes of the array in the files, such as TCZYX, where the files do '
    'not say',
  )
  group.add_argument(
    '--channel',
    default='',
    metavar='C',
    help='name or index (from 0) of the channel; several, separated by commas, '
    'for a model of several',
  )
  group.add_argument(
    '--time', type=int, metavar='T', help='index (from 0); default: all'
  )
  group.add_argument(
    '--z',
    default='',
    metavar='Z',
    help="index (from 0), 'max' for the maximum, 'all' for every plane",
  )
  group.add_argument(
    '--rgb', choices=_RGB, default='', help='how colours become grey'
  )
  group.add_argument(
    '--scene',
    default='',
    metavar='S',
    help='name or index of the image, in files of several',
  )
  group.add_argument(
    '--max-pixels',
    type=_positive,
    metavar='N',
    help='most values of a file that may be in memory at once',
  )
  group.add_argument(
    '--diameter',
    type=float,
    default=0.0,
    metavar='D',
    help="of the median cell in these files, in pixels; default: as the files' "
    'pixel size says, else as in training',
  )


def _add_filters(group: argparse._ArgumentGroup) -> None:
  group.add_argument(
    '--min-area', type=int, default=0, metavar='N', help='in pixels'
  )
  group.add_argument(
    '--max-area', type=int, default=0, metavar='N', help='in pixels'
  )
  group.add_argument(
    '--min-confidence', type=_share, default=0.0, metavar='P', help='0 to 1'
  )
  group.add_argument(
    '--drop-border',
    action='store_true',
    help='drop cells that touch the border of the image',
  )
  group.add_argument(
    '--fill-holes', action='store_true', help='fill the holes of cells'
  )


def run(arguments: argparse.Namespace) -> int:
  """Segments files; prints a line a file, and what failed at the end.

  Args:
    arguments: As declared by `add_arguments`.

  Returns:
    0; 1 where a file failed; 2 where nothing could be begun; 130 where it was
    interrupted.
  """
  keep_freed_blocks()
  # Imported late: `cellseg --help` does not wait for JAX.
  from cellseg_jax.inference import batch, inputs
  from cellseg_jax.inference.ensemble import ensemble, EnsembleError
  from cellseg_jax.inference.load import load_model
  from cellseg_jax.training.checkpoints import CheckpointError

  out = pathlib.Path(arguments.out)
  try:
    options = _options(arguments)
    images = inputs.find_images(arguments.paths)
    inputs.check_output(arguments.paths, out)
    names = inputs.output_names(images, out, f'.{arguments.format}')
    model = ensemble([load_model(folder) for folder in arguments.model])
    out.mkdir(parents=True, exist_ok=True)
    jobs = [
      batch.Job(image, name) for image, name in zip(images, names, strict=True)
    ]
    jobs = inputs.shard(jobs, *arguments.shard)
    common = batch.digest(model, options)
    todo, again = batch.left_to_do(jobs, out, common)
    batch.merge(out)
  except (
    ValueError,
    ConfigError,
    CheckpointError,
    EnsembleError,
    OSError,
  ) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  if len(todo) < len(jobs):
    print(
      f'{len(jobs) - len(todo)} of {len(jobs)} files are done already; '
      f'{len(todo)} are missing, changed or failed',
      flush=True,
    )
  elif again:
    print(f'{again} files were done otherwise or failed, and are done again')
  try:
    failed = _segment(
      batch.segment_files(model, todo, out, options, common),
      out,
      len(todo),
      arguments.list_below,
    )
    batch.merge(out)
  except KeyboardInterrupt:
    print(
      'interrupted; the same command goes on where this ended', file=sys.stderr
    )
    return INTERRUPTED
  except (OSError, ValueError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  if failed:
    print(
      f'{len(failed)} of {len(todo)} files failed: {", ".join(failed)}',
      file=sys.stderr,
    )
  return 1 if failed else 0


def _segment(
  outcomes, out: pathlib.Path, count: int, list_below: float
) -> list[str]:
  """Prints what becomes of each file; returns those that failed."""
  from tqdm import tqdm

  failed, pixels = [], 0
  # Where the output is no terminal, a line a file is enough.
  with tqdm(total=count, unit='file', desc='segmenting', disable=None) as bar:
    for outcome in outcomes:
      record = outcome.record
      if record.status == 'failed':
        failed.append(record.file)
        bar.write(f'{record.file}: failed: {record.reason}', file=sys.stderr)
      else:
        bar.write(
          f'{record.file} -> {out / record.outputs[-1]}: {record.cells} cells, '
          f'{record.seconds:.1f} s',
          file=sys.stdout,
        )
        _list_unsure(bar, outcome.confidence, list_below)
      if record.warning:
        bar.write(f'{record.file}: {record.warning}', file=sys.stderr)
      sys.stdout.flush()
      pixels += outcome.pixels
      bar.update()
      seconds = bar.format_dict['elapsed']
      bar.set_postfix_str(f'{pixels / 1e6 / max(seconds, 1e-3):.2f} MP/s')
  return failed


def _list_unsure(bar, frames: Sequence[dict[int, float]], below: float) -> None:
  for number, cells in enumerate(frames):
    where = f'frame {number}, ' if len(frames) > 1 else ''
    for label, confidence in cells.items():
      if confidence < below:
        bar.write(
          f'  {where}label {label}: confidence {confidence:.2f}',
          file=sys.stdout,
        )


def _options(arguments: argparse.Namespace):
  """Returns `files.Options`.

  Raises:
    ValueError: A value is impossible.
  """
  from cellseg_jax.images.axes import check_axes
  from cellseg_jax.images.errors import MAX_PIXELS
  from cellseg_jax.images.selection import Selection
  from cellseg_jax.inference.files import Options
  from cellseg_jax.inference.filters import Filters

  if arguments.axes:
    check_axes(arguments.axes)
  if arguments.diameter < 0:
    raise ValueError(
      f'--diameter must be positive, found {arguments.diameter:g}'
    )
  return Options(
    axes=arguments.axes,
    scene=arguments.scene,
    max_pixels=arguments.max_pixels or MAX_PIXELS,
    selection=Selection(
      arguments.channel, arguments.time, arguments.z, arguments.rgb
    ),
    diameter=arguments.diameter,
    filters=Filters(
      min_area=arguments.min_area,
      max_area=arguments.max_area,
      fill_holes=arguments.fill_holes,
      drop_border=arguments.drop_border,
      min_confidence=arguments.min_confidence,
    ),
    file_format=arguments.format,
    extras=arguments.save,
  )


def _share(text: str) -> float:
  value = float(text)
  if not 0 <= value <= 1:
    raise argparse.ArgumentTypeError(f'must be 0 to 1, found {text}')
  return value


def _positive(text: str) -> int:
  value = int(float(text))
  if value < 1:
    raise argparse.ArgumentTypeError(f'must be at least 1, found {text}')
  return value


def _shard(text: str) -> tuple[int, int]:
  part, _, parts = text.partition('/')
  if not (part.isdecimal() and parts.isdecimal()) or not (
    1 <= int(part) <= int(parts)
  ):
    raise argparse.ArgumentTypeError(
      f'must be i/n with i from 1 to n, such as 2/8, found {text}'
    )
  return int(part), int(parts)


def _extras(text: str) -> tuple[str, ...]:
  kinds = tuple(dict.fromkeys(text.split(',')))
  unknown = set(kinds) - set(_EXTRAS)
  if unknown:
    raise argparse.ArgumentTypeError(
      f'must be of {", ".join(_EXTRAS)}, found {", ".join(sorted(unknown))}'
    )
  return kinds
