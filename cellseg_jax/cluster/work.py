"""What tasks need of a run, loaded once a worker: its model, its open file."""

import contextlib
import dataclasses
import pathlib
import threading
from typing import Any, NamedTuple

import numpy as np

from cellseg_jax.images.frames import Frame
from cellseg_jax.inference import batch, files
from cellseg_jax.inference.ensemble import ensemble
from cellseg_jax.inference.load import load_model
from cellseg_jax.inference.predict import Model

# Of this process: a worker may have several threads.
_LOCK = threading.Lock()
_MODELS: dict['Work', Model] = {}
_FILES: dict[tuple, tuple[contextlib.ExitStack, Any]] = {}


class Work(NamedTuple):
  """What all tasks of a run have in common.

  Attributes:
    folders: Of the model, or of the members of an ensemble.
    out: Folder of the outputs.
    options: How files are read, and what is made of them.
    common: As `batch.digest` returns; workers check that theirs is the same.
  """

  folders: tuple[str, ...]
  out: pathlib.Path
  options: files.Options
  common: str


def model_of(work: Work) -> Model:
  """Loads the model of a run, once a worker.

  Raises:
    ValueError: It is not the one that the client has.
    OSError: It is not there.
  """
  with _LOCK:
    if work not in _MODELS:
      model = ensemble([load_model(folder) for folder in work.folders])
      if batch.digest(model, work.options) != work.common:
        raise ValueError(
          f'{", ".join(work.folders)}: a worker finds another model there; all '
          'machines must see the same files, and run the same version'
        )
      _MODELS.clear()
      _MODELS[work] = model
    return _MODELS[work]


@dataclasses.dataclass(frozen=True)
class FileFrame:
  """A frame of a file, whose pixels every worker reads by itself.

  Attributes:
    path: The file.
    changed: When it was changed, in ns.
    options: How it is read.
    channels: Of the model.
    number: Which of the frames.
    shape: As of `Frame`.
    dtype: As of `Frame`.
    pixel_size: As of `Frame`.
  """

  path: pathlib.Path
  changed: int
  options: files.Options
  channels: int
  number: int
  shape: tuple[int, ...]
  dtype: np.dtype
  pixel_size: tuple[float, float] | None

  @classmethod
  def of(
    cls,
    path: pathlib.Path,
    frame: Frame,
    number: int,
    options: files.Options,
    channels: int,
  ) -> 'FileFrame':
    """Describes a frame of an open file."""
    return cls(
      path,
      path.stat().st_mtime_ns,
      options,
      channels,
      number,
      frame.shape,
      frame.dtype,
      frame.pixel_size,
    )

  def __getitem__(self, index: tuple[slice, slice]) -> np.ndarray:
    return self._frames()[self.number][index]

  def __array__(
    self, dtype: np.dtype | None = None, copy: bool | None = None
  ) -> np.ndarray:
    """Reads the whole, for `numpy.asarray`."""
    return np.asarray(self._frames()[self.number], dtype)

  def _frames(self) -> Any:
    """Opens the file, and closes the one that was open before."""
    key = self.path, self.changed, self.options, self.channels
    with _LOCK:
      if key not in _FILES:
        while _FILES:
          _FILES.popitem()[1][0].close()
        with contextlib.ExitStack() as stack:
          frames = stack.enter_context(
            files.opened(self.path, self.options, self.channels)
          )
          _FILES[key] = stack.pop_all(), frames
      return _FILES[key][1]
