"""The common result of opening an image file of any format."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, Protocol

import numpy as np


class LazyArray(Protocol):
  """An array whose pixels are read when it is indexed.

  Attributes:
    chunks: Size, along each axis, of the pieces that are decoded at once.
  """

  @property
  def shape(self) -> tuple[int, ...]: ...

  @property
  def dtype(self) -> np.dtype: ...

  @property
  def chunks(self) -> tuple[int, ...]: ...

  def __getitem__(self, index: tuple[Any, ...]) -> Any: ...


@dataclasses.dataclass(frozen=True, eq=False)
class Opened:
  """The array of a file and its metadata.

  Attributes:
    array: The pixels; indexed by integers and slices.
    axes: One letter per axis, '?' if the metadata do not state it.
    pixel_size: Height and width of a pixel in um; None if unknown.
    channel_names: Names of the channels; empty if unknown.
    stored: Bytes of all files of the image; None if all are at its path.
  """

  array: LazyArray
  axes: str
  pixel_size: tuple[float, float] | None = None
  channel_names: Sequence[str] = ()
  stored: int | None = None


class Loaded:
  """An array that is read as a whole when it is first indexed."""

  def __init__(
    self,
    shape: tuple[int, ...],
    dtype: np.dtype,
    load: Callable[[], np.ndarray],
  ):
    self.shape, self.dtype, self.chunks = shape, dtype, shape
    self._load = load
    self._pixels: np.ndarray | None = None

  def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
    if self._pixels is None:
      pixels = self._load()
      if pixels.shape != self.shape:
        raise ValueError(
          f'decodes to shape {pixels.shape}, its header claims {self.shape}'
        )
      self._pixels = pixels
    return self._pixels[index]
