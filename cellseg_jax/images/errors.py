"""What can be wrong with an image file, as errors for people."""

from collections.abc import Iterator, Sequence
import contextlib
import math
import pathlib
import struct
import textwrap
import zlib

# Values that may be held at once unless a caller allows more: a header of a
# few bytes can claim any size.
MAX_PIXELS = 2**30

_LONGEST_CAUSE = 200  # Characters.

# What the readers raise on files that are cut off or not what they claim.
_READ_ERRORS = (
  ValueError,  # Includes tifffile.TiffFileError and those of zarr.
  OSError,
  ArithmeticError,
  KeyError,
  IndexError,
  TypeError,
  RuntimeError,  # numcodecs, of a chunk that cannot be decompressed.
  SyntaxError,  # Pillow, of a broken PNG; broken XML.
  struct.error,
  zlib.error,
)


class ImageFileError(ValueError):
  """A file is not an image that can be read without guessing."""


@contextlib.contextmanager
def reading(path: pathlib.Path) -> Iterator[None]:
  """Turns what readers raise inside into an `ImageFileError` with the path."""
  try:
    yield
  except ImageFileError:
    raise
  except _READ_ERRORS as error:
    raise ImageFileError(
      f'{path}: cannot be read ({type(error).__name__}: {brief(error)}); the '
      'file is cut off, damaged or of another kind: save or copy it again'
    ) from error


def brief(error: Exception) -> str:
  """The text of an error of a library, on one line and not long."""
  return textwrap.shorten(str(error), _LONGEST_CAUSE, placeholder='...')


def check_size(
  path: pathlib.Path, shape: Sequence[int], held: int, max_pixels: int
) -> None:
  """Refuses a file without pixels, or too large to be read.

  Args:
    path: The file.
    shape: Of the whole image, as its header says.
    held: Values that must be in memory at once.
    max_pixels: How many may be.

  Raises:
    ImageFileError: There is no pixel, or there are too many.
  """
  if not math.prod(shape):
    raise ImageFileError(
      f'{path}: the image has no pixels (shape {tuple(shape)}); save it again'
    )
  if held > max_pixels:
    raise ImageFileError(
      f'{path}: its header claims shape {tuple(shape)}, of which {held} values '
      f'must be held at once, and {max_pixels} are allowed; if that is right, '
      'raise max_pixels (--max-pixels), or save it as tiled TIFF or OME-Zarr'
    )


def choose_scene(
  path: pathlib.Path, scenes: Sequence[tuple[str, str]], scene: str
) -> int:
  """Returns the index of the image meant, of a file that may hold several.

  Args:
    path: The file.
    scenes: Name and description of every image; names may be empty or equal.
    scene: A name, or else an index from 0; '' where nothing was chosen.

  Raises:
    ImageFileError: There is no such image, or several and no choice.
  """
  if len(scenes) == 1 and not scene:
    return 0
  names = [name for name, _ in scenes]
  if scene and names.count(scene) == 1:
    return names.index(scene)
  if scene.isdecimal() and int(scene) < len(scenes):
    return int(scene)
  shown = ', '.join(
    f'{i} {" ".join(filter(None, one))}' for i, one in enumerate(scenes[:8])
  )
  more = ', ...' if scenes[8:] else ''
  fault = f'there is no image {scene!r}; ' if scene else ''
  raise ImageFileError(
    f'{path}: {fault}holds {len(scenes)} images ({shown}{more}), expected one; '
    'choose one (--scene), or save each image to a file of its own'
  )
