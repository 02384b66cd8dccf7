"""Writes TensorBoard event files without TensorFlow.

`record` uses this module to log a run's scalars and pictures.
"""

from collections.abc import Callable, Iterable, Mapping
import pathlib
import time
from typing import Any

import numpy as np
from tensorboardX import summary
from tensorboardX.event_file_writer import EventsWriter
from tensorboardX.proto.event_pb2 import Event, SessionLog

from cellseg_jax.evaluation.error_pictures import draw_errors
from cellseg_jax.evaluation.figures import composite
from cellseg_jax.evaluation.look import Look
from cellseg_jax.images.pictures import grey

# Number of images of which a crop is shown, and the crop's side in pixels.
SHOWN = 3
SIDE = 256
# Minimum number of seconds between flushes.
_FLUSH_EVERY = 5.0


class Events:
  """An event file in a folder; use as a context manager.

  Replaces `tensorboardX.SummaryWriter`, whose thread ends at the first disk
  error, after which its caller waits for it forever. Here an error is reported
  once, nothing more is written, and the run continues.
  """

  def __init__(
    self, folder: pathlib.Path, step: int, tell: Callable[[str], None]
  ):
    """Opens a new event file of a run that continues after `step`.

    Args:
      folder: Folder of the run's event files; created if absent.
      step: Updates made so far; TensorBoard ignores what older files hold of
        later steps.
      tell: Called with a sentence if something cannot be written.
    """
    self._folder, self._tell = folder, tell
    self._writer: EventsWriter | None = None
    self._flushed = 0.0
    try:
      folder.mkdir(exist_ok=True)
      self._writer = EventsWriter(str(folder / 'events'))
    except OSError as error:
      self._give_up(error)
    start = SessionLog(status=SessionLog.START)
    self._write(Event(step=step + 1, session_log=start))

  def __enter__(self) -> 'Events':
    return self

  def __exit__(self, *exception: Any) -> None:
    """Closes the file."""
    if self._writer is not None:
      try:
        self._writer.close()
      except OSError as error:
        self._give_up(error)

  def scalars(
    self, step: int, values: Mapping[str, float | None], part: str = 'training'
  ) -> None:
    """Writes scalars.

    Args:
      step: Updates made so far.
      values: Scalars by name; those that are None are skipped.
      part: Prefix of the names, under which TensorBoard groups them.
    """
    for name, value in values.items():
      if value is not None:
        made = summary.scalar(f'{part}/{name}', value)
        self._write(Event(step=step, summary=made))

  def pictures(self, step: int, looks: Iterable[Look]) -> None:
    """Writes a picture of the centre of each image, drawn by `crop`.

    Args:
      step: Updates made so far.
      looks: The segmented validation images.
    """
    for look in looks:
      made = summary.image(
        f'validation/{look.name}', crop(look), dataformats='HWC'
      )
      self._write(Event(step=step, summary=made))

  def _write(self, event: Event) -> None:
    if self._writer is None:
      return
    now = time.time()
    event.wall_time = now
    try:
      self._writer.write_event(event)
      if now - self._flushed > _FLUSH_EVERY:
        self._writer.flush()
        self._flushed = now
    except OSError as error:
      self._give_up(error)

  def _give_up(self, error: OSError) -> None:
    self._writer = None
    self._tell(
      f'Warning: {self._folder}: no more events for TensorBoard ({error})'
    )


def crop(look: Look) -> np.ndarray:
  """Draws the centre of an image in three panels, side by side.

  The panels are the image, its composite with the foreground probability, and
  the segmentation errors.

  Args:
    look: The segmented image.

  Returns:
    RGB picture, uint8 (h, 3 w, 3), where h and w are at most `SIDE`.
  """
  height, width = look.true.shape
  top, left = max(height - SIDE, 0) // 2, max(width - SIDE, 0) // 2
  box = np.s_[top : top + SIDE, left : left + SIDE]
  image = look.image[box]
  parts = (
    np.repeat(grey(image)[..., None], 3, axis=-1),
    composite(image, look.probability[box]),
    draw_errors(look.true[box], look.found[box], image) / 255,
  )
  return np.rint(255 * np.concatenate(parts, axis=1)).astype(np.uint8)
