"""Labelled images, the items of every data set, and lazy sequences of them."""

from collections.abc import Callable, Sequence
import dataclasses
from typing import Any, overload

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class LabelledImage:
  """An image with its label image.

  Attributes:
    name: File stem or a generated name; unique within a split of a data set.
    image: Raw intensities, (H, W) for one channel or (H, W, C) for several, of
      any integer or float dtype.
    labels: Label image, int32 (H, W); 0 is background, every other value is one
      cell.
    valid: bool (H, W); False for pixels that nobody labelled or whose labels
      are held out. These take no part in training and evaluation.
  """

  name: str
  image: np.ndarray
  labels: np.ndarray
  valid: np.ndarray


class LazyImages(Sequence[LabelledImage]):
  """A sequence of images that are read on every access and not cached."""

  def __init__(
    self, read: Callable[[int], LabelledImage], places: Sequence[int]
  ):
    """Stores the arguments; reads no image yet.

    Args:
      read: Returns the image of a given index.
      places: The indices of this sequence's images, in order.
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
