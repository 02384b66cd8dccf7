"""Labelled images, the unit that every data set is made of."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, overload

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImage:
  """An image with one label value a cell.

  Attributes:
    name: File stem or a made-up name; unique within a data set.
    image: Raw intensities, (H, W) for one channel, (H, W, C) for several, any
      integer or float dtype.
    labels: int32 (H, W); 0 is background, every other value is one cell.
    valid: bool (H, W); False where nobody labelled or where the labels are
      held out. Such pixels take no part in training or evaluation.
  """

  name: str
  image: np.ndarray
  labels: np.ndarray
  valid: np.ndarray


class LazyImages(Sequence[LabelledImage]):
  """Images that are read whenever they are looked at, and never kept."""

  def __init__(
    self, read: Callable[[int], LabelledImage], places: Sequence[int]
  ):
    """Reads nothing yet.

    Args:
      read: Returns the image at a place.
      places: The places of these images, in order.
    """
    self._read, self._places = read, places

  def __len__(self) -> int:
    return len(self._places)

  @overload
  def __getitem__(self, index: int) -> LabelledImage: ...

  @overload
  def __getitem__(self, index: slice) -> 'LazyImages': ...

  def __getitem__(self, index: Any) -> Any:
    if isinstance(index, slice):
      return LazyImages(self._read, self._places[index])
    return self._read(self._places[index])
