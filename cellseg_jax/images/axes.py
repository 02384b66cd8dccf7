"""Axes of image arrays: as the file or the user states them, never guessed.

Files whose axes are not stated are refused with the possible readings.
"""

from collections.abc import Sequence
import itertools
import pathlib

from cellseg_jax.images.errors import ImageFileError

# Time, channel, depth, height, width, and RGB sample.
LETTERS = 'TCZYXS'
UNSTATED = '?'

_STACKED = {'Z': 'depth', 'T': 'time', 'C': 'channel', 'S': 'sample'}
_MOST_READINGS = 8


def check_axes(axes: str) -> str:
  """Checks axes that a user gives.

  Args:
    axes: One letter per axis, such as 'TCZYX', in either case.

  Returns:
    The axes in upper case.

  Raises:
    ValueError: They cannot be the axes of an image.

  Examples:
    >>> check_axes('czyx')
    'CZYX'
  """
  letters = axes.upper()
  if set('YX') <= set(letters) <= set(LETTERS) and len(set(letters)) == len(
    letters
  ):
    return letters
  raise ValueError(
    f'axes must be letters of {LETTERS}, each once, with Y and X among them, '
    f'such as TCZYX; found {axes!r}'
  )


def resolve_axes(
  path: pathlib.Path, shape: Sequence[int], stated: str, given: str | None
) -> str:
  """Returns the axes of a file's array, one letter per axis.

  Args:
    path: The file, for messages.
    shape: Shape of the array.
    stated: Axes that the metadata state, with `UNSTATED` for each unknown one.
    given: Axes that the user states, which override the metadata, or None.

  Raises:
    ImageFileError: The given axes do not fit the shape; or none are given and
      those in the metadata are incomplete or cannot be read. The message lists
      the possible readings.
    ValueError: `given` cannot be the axes of an image.
  """
  if given is not None:
    letters = check_axes(given)
    if len(letters) != len(shape):
      raise ImageFileError(
        f'{path}: axes {letters} are {len(letters)}, but the image is of shape '
        f'{tuple(shape)}'
        + (f' with axes {stated}' if UNSTATED not in stated else '')
      )
    return letters
  if UNSTATED not in stated:
    try:
      return check_axes(stated)
    except ValueError:
      raise ImageFileError(
        f'{path}: shape {tuple(shape)} has axes {stated}, of which only '
        f'{", ".join(LETTERS)} can be read; say what they are (--axes)'
      ) from None
  ways = '; or '.join(
    f'{text} (--axes {_either(options)})'
    for text, options in readings(shape, stated)
  )
  raise ImageFileError(
    f'{path}: shape {tuple(shape)} without stated axes may be {ways or "none"}'
  )


def readings(
  shape: Sequence[int], stated: str
) -> list[tuple[str, Sequence[str]]]:
  """Lists how an array can be read as an image.

  Args:
    shape: Shape of the array.
    stated: Axes that its metadata state, with `UNSTATED` for each unknown one.

  Returns:
    Descriptions, each with the axes that it stands for.

  Examples:
    >>> readings((5, 40, 60), '?YX')
    [('5 channels, depths or times of 40x60', ['CYX', 'ZYX', 'TYX'])]
  """
  if UNSTATED not in stated:
    stacked = ', '.join(
      f'{_STACKED.get(axis, axis)} ({size})'
      for axis, size in zip(stated, shape, strict=True)
      if axis not in 'YX'
    )
    return [(f'a stack over {stacked}', [stated])]
  tails = ['YX'] if stated.endswith('?') else [stated.lstrip(UNSTATED)]
  if len(shape) > 3 or stated.endswith('S'):
    options = [option for tail in tails for option in _filled(shape, tail)]
    return [(f'a stack of {len(shape)} axes', options)]
  if len(shape) < 2:
    return []
  if len(shape) == 2:
    return [('{}x{}'.format(*shape), ['YX'])]
  found: list[tuple[str, Sequence[str]]] = [
    (
      f'{shape[0]} channels, depths or times of {shape[1]}x{shape[2]}',
      ['CYX', 'ZYX', 'TYX'],
    )
  ]
  if stated.endswith(UNSTATED):
    last = ['YXC', 'YXS'] if shape[2] in (3, 4) else ['YXC']
    found.append((f'{shape[0]}x{shape[1]} with {shape[2]} channels', last))
  return found


def _filled(shape: Sequence[int], tail: str) -> list[str]:
  """Returns all possible axes of this length that end in `tail`."""
  orders = itertools.permutations('TCZ', len(shape) - len(tail))
  return [''.join(order) + tail for order in orders]


def _either(options: Sequence[str]) -> str:
  shown = options[:_MOST_READINGS]
  return ', '.join(shown[:-1]) + (' or ' if shown[:-1] else '') + shown[-1]
