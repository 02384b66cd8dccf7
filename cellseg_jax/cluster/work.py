"""What cluster tasks need, cached in each worker: the model and open files.

`Work` identifies a run, `model_of` loads its model, and `FileFrame` is a frame
that every worker reads for itself.
"""

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

# Caches of this process, locked because a worker may have several threads.
_LOCK = threading.Lock()
_MODELS: dict['Work', Model] = {}
_FILES: dict[tuple, tuple[contextlib.ExitStack, Any]] = {}


class Work(NamedTuple):
  """What all tasks of a run have in common.

  Attributes:
    folders: Folder of the model's run, or one per ensemble member.
    out: The output folder.
    options: How files are read and which outputs are written.
    common: The client's `batch.digest` of model and options; workers check that
      theirs is the same.
  """

  folders: tuple[str, ...]
  out: pathlib.Path
  options: files.Options
  common: str


def model_of(work: Work) -> Model:
  """Returns the model of a run, which each worker loads once.

  Raises:
    ValueError: The model differs from the client's.
    OSError: The model cannot be found or read.
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
  """A frame of a file whose pixels each worker reads for itself.

  Attributes:
    path: The file.
    changed: Modification time of the file, in ns.
    options: How the file is read.
    channels: Channels that the model takes.
    number: Index of the frame.
    shape: (H, W), or (H, W, C) for a model of several channels.
    dtype: Type of the pixels.
    pixel_size: Height and width of a pixel in um; None if unknown.
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
    """Creates the description of a frame of an open file.

    Args:
      path: The file.
      frame: The frame.
      number: Index of the frame.
      options: How the file is read.
      channels: Channels that the model takes.
    """
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
    """Reads the whole frame, for `numpy.asarray`."""
    return np.asarray(self._frames()[self.number], dtype)

  def _frames(self) -> Any:
    """Returns the file's frames; opens it and closes the last if need be."""
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
