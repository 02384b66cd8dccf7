"""TensorBoard's event files, written without TensorFlow."""

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

# Images of which a crop is shown, and its side.
SHOWN = 3
SIDE = 256
# Least seconds from one flush to the next.
_FLUSH_EVERY = 5.0


class Events:
  """A file of events in a folder; use as a context manager.

  Not `tensorboardX.SummaryWriter`: its thread ends at the first fault of the
  disk, and who writes then waits for it for ever. Here a fault is told once,
  nothing more is written, and the run goes on.
  """

  def __init__(
    self, folder: pathlib.Path, step: int, tell: Callable[[str], None]
  ):
    """Opens the events of a run that goes on after `step`.

    Args:
      folder: Of the run's files of events; made if need be.
      step: Updates made so far; TensorBoard leaves out what older files have of
        later ones.
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
    """Writes numbers; those that are None are left out."""
    for name, value in values.items():
      if value is not None:
        made = summary.scalar(f'{part}/{name}', value)
        self._write(Event(step=step, summary=made))

  def pictures(self, step: int, looks: Iterable[Look]) -> None:
    """Writes the middle of each image: itself, its probability, its errors."""
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
  """Draws the middle of an image: itself, composite and errors side by side.

  Returns:
    uint8 (h, 3 w, 3), where h and w are at most `SIDE`.
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
