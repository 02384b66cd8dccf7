"""Selection of the channels, times and depths of a file to segment.

`select` turns an open file into the frames that segmentation works on.
"""

from collections.abc import Sequence
import dataclasses

from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.frames import Frame, grey_type, RGB_MODES
from cellseg_jax.images.source import Source

# Maximum number of planes taken from a file; a header of a few bytes can claim
# any number of planes of one pixel.
_MOST_PLANES = 2**18
_MOST_LISTED = 16


@dataclasses.dataclass(frozen=True)
class Selection:
  """What to take from every file.

  Attributes:
    channel: Names or indices from 0, separated by commas, one for each channel
      of the model; '' takes all and requires a file with as many channels.
    time: Index from 0; None takes every time point.
    z: Index from 0, 'max' for the maximum over depth, or 'all' for every plane;
      '' requires a file with a single plane.
    rgb: How colours become grey, one of `RGB_MODES`; '' refuses colours, unless
      the model takes as many channels.
  """

  channel: str = ''
  time: int | None = None
  z: str = ''
  rgb: str = ''

  def __post_init__(self) -> None:
    if self.z not in ('', 'max', 'all') and not self.z.isdecimal():
      raise ValueError(f"z must be an index, 'max' or 'all', found {self.z!r}")
    if self.rgb not in ('', *RGB_MODES):
      raise ValueError(
        f'rgb must be one of {", ".join(RGB_MODES)}, found {self.rgb!r}'
      )
    if self.time is not None and self.time < 0:
      raise ValueError(f'time must be an index from 0, found {self.time}')


def select(
  source: Source, selection: Selection, channels: int = 1
) -> list[Frame]:
  """Returns the frames of a file, ordered by time and then by depth.

  Args:
    source: The file.
    selection: What to take.
    channels: Number of channels that the model takes.

  Raises:
    ImageFileError: The file does not have what is selected, or several channels
      or planes of which none is selected; the message lists what it has.
  """
  if source.dtype.kind not in 'uif':
    raise ImageFileError(
      f'{source.path}: pixels are of type {source.dtype}; save them as '
      'integers or floats'
    )
  rgb = _rgb(source, selection, channels)
  if source.size('S') > 1 and not rgb:  # The samples are the channels.
    taken = [0]
  else:
    taken = _channels(source, selection.channel, channels)
  times = _times(source, selection.time)
  planes = 1 if selection.z.isdecimal() else source.size('Z')
  if len(times) * planes > _MOST_PLANES:
    raise ImageFileError(
      f'{source.path}: {len(times)} times of {planes} planes are to be taken, '
      f'and at most {_MOST_PLANES} planes can be of one file; choose some '
      '(--time, --z), or save it as several files'
    )
  depths = _depths(source, selection.z)
  size = (source.size('Y'), source.size('X'))
  return [
    Frame(
      source=source,
      shape=size if channels == 1 else (*size, channels),
      dtype=grey_type(source.dtype, rgb) if rgb else source.dtype,
      suffix=(f'_t{time:03}' if len(times) > 1 else '')
      + (f'_z{depth[0]:02}' if len(depths) > 1 else ''),
      time=time,
      depths=depth,
      channels=taken,
      rgb=rgb,
    )
    for time in times
    for depth in depths
  ]


def stack_axes(frames: Sequence[Frame]) -> str:
  """Returns the axes along which a file's frames differ: '', T, Z or TZ."""
  times = {frame.time for frame in frames}
  depths = {tuple(frame.depths) for frame in frames}
  return 'T' * (len(times) > 1) + 'Z' * (len(depths) > 1)


def _rgb(source: Source, selection: Selection, channels: int) -> str:
  """Returns how the file's colours become grey; '' if they need not."""
  samples = source.size('S')
  if samples == 1 or (
    not selection.rgb
    and not selection.channel
    and samples == channels
    and source.size('C') == 1
  ):
    return ''
  found = f'{source.path}: has {samples} samples a pixel'
  other = 'save it in grey'
  if 'C' not in source.axes:
    other = (
      f'say that they are channels (--axes {source.axes.replace("S", "C")})'
    )
  if not selection.rgb:
    raise ImageFileError(
      f'{found}, the model takes {_count(channels)}; say how these colours '
      f'become grey (--rgb {", ".join(RGB_MODES)}), or {other}'
    )
  if samples not in (3, 4):
    raise ImageFileError(
      f'{found}, which are not red, green and blue (--rgb {selection.rgb}); '
      f'{other}'
    )
  return selection.rgb


def _channels(source: Source, choice: str, channels: int) -> list[int]:
  """Returns the indices of the channels to take."""
  has = f'{source.path}: has {_count(source.size("C"))} ({_listed(source)})'
  takes = f'the model takes {_count(channels)}'
  if not choice:
    if source.size('C') != channels:
      raise ImageFileError(
        f'{has}, {takes}; choose (--channel), several separated by commas'
      )
    return list(range(channels))
  taken = []
  for text in map(str.strip, choice.split(',')):
    names = source.channel_names
    if names.count(text) == 1:
      taken.append(names.index(text))
    elif text.isdecimal() and int(text) < source.size('C'):
      taken.append(int(text))
    else:
      raise ImageFileError(f'{has}, none of them {text!r} (--channel {choice})')
  if len(taken) != channels:
    raise ImageFileError(
      f'{has}, {takes}, and --channel {choice} names {len(taken)}'
    )
  return taken


def _times(source: Source, time: int | None) -> Sequence[int]:
  count = source.size('T')
  if time is None:
    return range(count)
  if time >= count:
    raise ImageFileError(
      f'{source.path}: has times 0 to {count - 1}, not {time} (--time)'
    )
  return [time]


def _depths(source: Source, z: str) -> Sequence[Sequence[int]]:
  """Returns, for every frame of one time point, the planes it is made of."""
  count = source.size('Z')
  if z == 'max':
    return [range(count)]
  if z == 'all' or (not z and count == 1):
    return [[depth] for depth in range(count)]
  if not z:
    raise ImageFileError(
      f'{source.path}: has {count} planes in depth; choose one (--z 0 to '
      f'{count - 1}), their maximum (--z max) or every one (--z all)'
    )
  if int(z) >= count:
    raise ImageFileError(
      f'{source.path}: has planes 0 to {count - 1} in depth, not {z} (--z)'
    )
  return [[int(z)]]


def _listed(source: Source) -> str:
  count = source.size('C')
  names = source.channel_names or [''] * min(count, _MOST_LISTED)
  shown = names[:_MOST_LISTED]
  listed = ', '.join(f'{i} {name}'.strip() for i, name in enumerate(shown))
  return listed + ', ...' * (count > _MOST_LISTED)


def _count(channels: int) -> str:
  return f'{channels} channel' + 's' * (channels != 1)
