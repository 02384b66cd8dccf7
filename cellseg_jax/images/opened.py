"""What opening a file gives, whatever its format."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, Protocol

import numpy as np


class LazyArray(Protocol):
  """An array whose pixels are read when it is indexed.

  Attributes:
    chunks: Sizes along each axis that are decoded at once.
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
  """A file's array and what its metadata say.

  Attributes:
    array: The pixels; indexed by integers and slices.
    axes: A letter an axis, '?' where the metadata do not state it.
    pixel_size: Height and width of a pixel in um, if known.
    channel_names: If known, as many as channels.
    stored: Bytes of all files that it consists of, where these are not all at
      its path.
  """

  array: LazyArray
  axes: str
  pixel_size: tuple[float, float] | None = None
  channel_names: Sequence[str] = ()
  stored: int | None = None


class Loaded:
  """An array that can only be read whole, at its first use."""

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
