"""The command-line options of `cellseg segment`, and their conversion."""

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
  from cellseg_jax.inference.files import Options

# Repeated here, because importing them takes seconds for which --help would
# have to wait.
_RGB = ('luminance', 'mean', 'red', 'green', 'blue')
_EXTRAS = ('overlay', 'probability', 'roi', 'geojson', 'coco')


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
  group.add_argument(
    '--dask',
    default='',
    metavar='ADDRESS',
    help='run on a Dask cluster: the address of its scheduler, or local[:N] '
    'for N workers of one core on this machine; all must see the images, the '
    'model and OUT by the same paths',
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
    type=positive,
    metavar='N',
    help='most values of a file that may be in memory at once, and that a '
    'small file may claim in all (default: 2^30)',
  )
  group.add_argument(
    '--diameter',
    type=float,
    default=0.0,
    metavar='D',
    help="of the median cell in these files, in pixels; default: as the files' "
    'pixel size says, else as in training',
  )
  group.add_argument(
    '--decoding',
    type=_settings,
    default={},
    metavar='NAME=VALUE,...',
    help='settings of the decoder in place of those that training chose, such '
    'as depth=0.04; names and choices are in decoding.csv of the run',
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


def options(arguments: argparse.Namespace) -> 'Options':
  """Converts parsed arguments to `files.Options`.

  Args:
    arguments: The arguments that `add_arguments` declares.

  Raises:
    ValueError: An argument has an impossible value.
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
    decoding=tuple(arguments.decoding.items()),
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


def positive(text: str) -> int:
  """Parses a number of at least 1, such as 2000000 or 2e6."""
  value = int(float(text))
  if value < 1:
    raise argparse.ArgumentTypeError(f'must be at least 1, found {text}')
  return value


def _settings(text: str) -> dict[str, float]:
  """Parses settings such as 'depth=0.04,threshold=0.4'."""
  settings = {}
  for part in text.split(','):
    name, equals, value = part.partition('=')
    if not equals:
      raise argparse.ArgumentTypeError(f'must be NAME=VALUE, found {part!r}')
    settings[name.strip()] = _share(value)
  return settings


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
