"""A cache of decoded tiles and strips for reading images block by block.

Without it, overlapping blocks would decode the same tile several times.
"""

from collections import OrderedDict
import itertools
import math
import threading
from typing import Any

import numpy as np

from cellseg_jax.images.opened import LazyArray, Loaded

_KEPT_BYTES = 2**28
# Small tiles and strips are decoded several at a time, as each call costs 1 ms.
_FEWEST_VALUES = 2**18

_Index = tuple[Any, ...]


class _Kept:
  """An array with a cache of the most recently used pieces.

  Without the cache, overlapping blocks would decode a tile up to nine times,
  and a strip as often as there are blocks side by side.
  """

  def __init__(self, array: LazyArray, y: int, x: int):
    self.shape, self.dtype, self.chunks = array.shape, array.dtype, array.chunks
    self._array, self._y, self._x = array, y, x
    several = math.ceil(_FEWEST_VALUES / math.prod(array.chunks))
    self._height = min(array.chunks[y] * several, array.shape[y])
    self._width = array.chunks[x]
    self._pieces: OrderedDict[_Index, np.ndarray] = OrderedDict()
    self._lock = threading.Lock()

  def __getitem__(self, index: _Index) -> np.ndarray:
    rows, columns = index[self._y], index[self._x]
    sizes = [
      len(range(size)[part])
      for part, size in zip(index, self.shape, strict=True)
      if isinstance(part, slice)
    ]
    if (
      not (_plain(rows) and _plain(columns))
      # Larger reads would evict the rest of the cache.
      or math.prod(sizes) * self.dtype.itemsize > _KEPT_BYTES / 4
    ):
      return self._array[index]
    pixels = np.empty(sizes, self.dtype)
    for top, left in itertools.product(
      _starts(rows, self._height), _starts(columns, self._width)
    ):
      piece = self._piece(index, top, left)
      shared = (
        slice(max(rows.start, top), min(rows.stop, top + self._height)),
        slice(max(columns.start, left), min(columns.stop, left + self._width)),
      )
      target = self._shifted(index, shared, rows.start, columns.start)
      pixels[target] = piece[self._shifted(index, shared, top, left)]
    return pixels

  def _piece(self, index: _Index, top: int, left: int) -> np.ndarray:
    """Returns the piece at `top` and `left` in the planes of `index`."""
    where = list(index)
    where[self._y] = slice(top, min(top + self._height, self.shape[self._y]), 1)
    where[self._x] = slice(
      left, min(left + self._width, self.shape[self._x]), 1
    )
    # Slices cannot be keys before Python 3.12.
    key = tuple(str(part) for part in where)
    with self._lock:
      piece = self._pieces.pop(key, None)
    if piece is None:
      piece = np.asarray(self._array[tuple(where)])
    with self._lock:
      self._pieces[key] = piece  # Now the most recently used.
      while (
        len(self._pieces) > 1
        and sum(one.nbytes for one in self._pieces.values()) > _KEPT_BYTES
      ):
        self._pieces.popitem(last=False)
    return piece

  def _shifted(
    self, index: _Index, shared: tuple[slice, slice], top: int, left: int
  ) -> _Index:
    """Returns an index into an array that begins at `top` and `left`.

    Axes that `index` indexes with an integer are gone in that array.
    """
    inner = {
      self._y: slice(shared[0].start - top, shared[0].stop - top),
      self._x: slice(shared[1].start - left, shared[1].stop - left),
    }
    axes = (a for a, part in enumerate(index) if isinstance(part, slice))
    return tuple(inner.get(axis, slice(None)) for axis in axes)


def keep(array: LazyArray, y: int, x: int) -> LazyArray:
  """Returns the array with a cache of decoded tiles and strips.

  Args:
    array: Indexed by integers and by slices with start, stop and step.
    y: Number of the axis of rows.
    x: Number of the axis of columns.

  Returns:
    An array of the same content; the given one if a cache would not help.
  """
  # These are not decoded at all, or are in memory already.
  if math.prod(array.chunks) == 1 or isinstance(array, Loaded):
    return array
  return _Kept(array, y, x)


def _plain(part: int | slice) -> bool:
  return isinstance(part, slice) and part.step == 1


def _starts(part: slice, size: int) -> range:
  """Returns where the pieces begin that a slice overlaps."""
  return range(part.start // size * size, part.stop, size)
