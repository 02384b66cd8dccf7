"""Faults of image files, as errors with a message that says what to do.

Shared by the readers of all formats: limits on size, and the choice of one
image in a file of several.
"""

from collections.abc import Iterator, Sequence
import contextlib
import math
import os
import pathlib
import textwrap

# Values that may be in memory at once unless a caller allows more: a header of
# a few bytes can claim any size.
MAX_PIXELS = 2**30

# A larger image must have at least this share of its bytes on disk. JPEG slides
# have a tenth to a thirtieth; without the check, 1 kB could claim any size.
_LEAST_SHARE = 1 / 100

_LONGEST_CAUSE = 200  # Characters.
_MOST_SCENES_SHOWN = 8
_RAISE = 'raise max_pixels (--max-pixels; to train, --config.data.max_pixels)'


class ImageFileError(ValueError):
  """A file is not an image, or cannot be read without guessing."""


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
  """Turns errors raised inside into an `ImageFileError` with the path.

  Libraries may raise any exception on files that are cut off or damaged.
  """
  try:
    yield
  except ImageFileError:
    raise
  except Exception as error:
    raise ImageFileError(
      f'{path}: cannot be read ({type(error).__name__}: {brief(error)}); the '
      'file is cut off, damaged or of another kind: save or copy it again'
    ) from error


def brief(error: Exception) -> str:
  """Returns the text of a library's error, on one line and shortened."""
  return textwrap.shorten(str(error), _LONGEST_CAUSE, placeholder='...')


def check_size(
  path: pathlib.Path, shape: Sequence[int], held: int, max_pixels: int
) -> None:
  """Refuses a file that has no pixels or is too large to read.

  Args:
    path: The file.
    shape: Shape of the whole image, according to its header.
    held: Number of values that must be in memory at once.
    max_pixels: Maximum of `held`.

  Raises:
    ImageFileError: There are no pixels, or too many.
  """
  if not math.prod(shape):
    raise ImageFileError(
      f'{path}: the image has no pixels (shape {tuple(shape)}); save it again'
    )
  if held > max_pixels:
    raise ImageFileError(
      f'{path}: its header claims shape {tuple(shape)}, of which {held} values '
      f'must be held at once, and {max_pixels} are allowed; if that is right, '
      f'{_RAISE}, or save it as tiled TIFF or OME-Zarr'
    )


def check_share(
  path: pathlib.Path,
  shape: Sequence[int],
  itemsize: int,
  stored: int | None,
  max_pixels: int,
) -> None:
  """Refuses a small file that claims to be a large image.

  Its pixels need not be in memory at once, but all would be read, and labels
  for all of them written.

  Args:
    path: The file.
    shape: Shape of the whole image, according to its header.
    itemsize: Bytes per value.
    stored: Bytes of all files of the image; None counts those at `path`.
    max_pixels: Images of up to this many values may have any size on disk.

  Raises:
    ImageFileError: The image has more values than that, and too few bytes.
  """
  values = math.prod(shape)
  if values <= max_pixels:
    return
  least = math.ceil(values * itemsize * _LEAST_SHARE)
  found = stored if stored is not None else _bytes_at(path, least)
  if found < least:
    raise ImageFileError(
      f'{path}: its header claims shape {tuple(shape)}, which is {values} '
      f'values, but only {found} bytes are there; an image of more than '
      f'{max_pixels} values must have {_LEAST_SHARE:.0%} of its bytes on disk. '
      f'If that is right, {_RAISE}'
    )


def _bytes_at(path: pathlib.Path, enough: int) -> int:
  """Counts the bytes of a file or of a folder's files, up to `enough`."""
  if not path.is_dir():
    return path.stat().st_size
  total = 0
  for folder, _, files in os.walk(path):
    for name in files:
      total += os.lstat(os.path.join(folder, name)).st_size
      if total >= enough:
        return total
  return total


def choose_scene(
  path: pathlib.Path, scenes: Sequence[tuple[str, str]], scene: str
) -> int:
  """Returns the index of the chosen image in a file that may hold several.

  Args:
    path: The file.
    scenes: Name and description of every image; names may be empty or equal.
    scene: A name, or an index from 0; '' if none was chosen, which is enough
      for a file of one image.

  Raises:
    ImageFileError: There is no such image, or there are several and none was
      chosen.
  """
  if len(scenes) == 1 and not scene:
    return 0
  names = [name for name, _ in scenes]
  if scene and names.count(scene) == 1:
    return names.index(scene)
  if scene.isdecimal() and int(scene) < len(scenes):
    return int(scene)
  shown = ', '.join(
    f'{i} {" ".join(filter(None, one))}'
    for i, one in enumerate(scenes[:_MOST_SCENES_SHOWN])
  )
  more = ', ...' if scenes[_MOST_SCENES_SHOWN:] else ''
  fault = f'there is no image {scene!r}; ' if scene else ''
  raise ImageFileError(
    f'{path}: {fault}holds {len(scenes)} images ({shown}{more}), expected one; '
    'choose one (--scene), or save each image to a file of its own'
  )
