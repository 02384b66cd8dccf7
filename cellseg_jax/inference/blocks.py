"""Images by blocks: where they lie, how they are read, where they are kept."""

import collections
from collections.abc import Callable, Iterable, Iterator
import concurrent.futures
import errno
import os
import pathlib
import threading
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

# Each holds a block in memory.
_MOST_WORKERS = 4

Item = TypeVar('Item')
Result = TypeVar('Result')


class Readable(Protocol):
  """An image that is read by slices."""

  @property
  def shape(self) -> tuple[int, int]: ...

  def __getitem__(self, slices: Any, /) -> Any: ...


class Array(Readable, Protocol):
  """An image that is read and written by slices: NumPy, Zarr, `Scratch`."""

  def __setitem__(self, slices: Any, block: Any, /) -> None: ...


class Each(Protocol):
  """Computes every item, somewhere, and gives the results in order.

  `in_turn` in threads of this process; others need what `compute` holds and
  what it returns to be such that it can be sent to another process.
  """

  def __call__(
    self, compute: Callable[[Item], Result], items: Iterable[Item], /
  ) -> Iterator[Result]: ...


class Box(NamedTuple):
  """A block of an image, in pixels; `bottom` and `right` are not in it."""

  top: int
  bottom: int
  left: int
  right: int

  @property
  def slices(self) -> tuple[slice, slice]:
    """The block's rows and columns, to index an image with."""
    return slice(self.top, self.bottom), slice(self.left, self.right)

  @property
  def shape(self) -> tuple[int, int]:
    """Height and width."""
    return self.bottom - self.top, self.right - self.left


def cut(shape: tuple[int, int], size: tuple[int, int]) -> list[Box]:
  """Cuts an image into blocks, in reading order.

  Args:
    shape: Height and width of the image.
    size: Those of a block; the last of a row or column may be smaller.
  """
  height, width = shape
  if not height or not width:
    return []
  return [
    Box(top, min(top + size[0], height), left, min(left + size[1], width))
    for top in range(0, height, size[0])
    for left in range(0, width, size[1])
  ]


def read_framed(image: Readable, box: Box, frame: int) -> np.ndarray:
  """Reads a block with `frame` more pixels on every side.

  Args:
    image: (H, W).
    box: Height h, width w.
    frame: Pixels; at least 0.

  Returns:
    (h + 2 * frame, w + 2 * frame), always a copy; 0 outside the image.
  """
  height, width = image.shape
  inside = Box(
    max(box.top - frame, 0),
    min(box.bottom + frame, height),
    max(box.left - frame, 0),
    min(box.right + frame, width),
  )
  above, before = inside.top - box.top + frame, inside.left - box.left + frame
  block = image[inside.slices]
  framed = np.zeros([side + 2 * frame for side in box.shape], block.dtype)
  framed[above:, before:][: block.shape[0], : block.shape[1]] = block
  return framed


def in_turn(
  compute: Callable[[Item], Result],
  items: Iterable[Item],
  workers: int = min(os.cpu_count() or 1, _MOST_WORKERS),
) -> Iterator[Result]:
  """Computes in several threads, and gives the results in order.

  At most one more than `workers` results are held or computed at a time.

  Args:
    compute: Called in other threads; its faults are raised here.
    items: What to call it with, from the first to the last.
    workers: Threads.
  """
  with concurrent.futures.ThreadPoolExecutor(workers) as pool:
    under_way: collections.deque[concurrent.futures.Future[Result]] = (
      collections.deque()
    )
    try:
      for item in items:
        under_way.append(pool.submit(compute, item))
        if len(under_way) > workers:
          yield under_way.popleft().result()
      while under_way:
        yield under_way.popleft().result()
    finally:
      for future in under_way:
        future.cancel()


class OneAtATime:
  """An array of which one block is written at a time, whoever writes them.

  Blocks of a compressed array may share a chunk, which is read, changed and
  written again.
  """

  def __init__(self, array: Any) -> None:
    """Wraps an array, which lies in `array`."""
    self.array, self._lock = array, threading.Lock()
    self.shape, self.dtype = array.shape, array.dtype

  def __getitem__(self, slices: Any) -> Any:
    return self.array[slices]

  def __setitem__(self, slices: Any, block: Any) -> None:
    with self._lock:
      self.array[slices] = block


class Scratch:
  """An image in a file, of which only what is being read is in memory.

  Rows of a block are read and written by the system's calls: pages of a map of
  the file count as memory of the process once touched, and cost more.
  """

  def __init__(
    self, path: pathlib.Path, shape: tuple[int, int], dtype: type
  ) -> None:
    """Makes the file, of zeros; it is closed when this is no longer used.

    Raises:
      OSError: The disk has no room for it.
    """
    self.shape, self.dtype = shape, np.dtype(dtype)
    size = shape[0] * shape[1] * self.dtype.itemsize
    self._file = open(path, 'wb+', buffering=0)  # noqa: SIM115
    try:
      _reserve(self._file.fileno(), size)
    except OSError as error:
      self._file.close()
      raise OSError(
        error.errno,
        f'cannot keep {size / 1e9:.1f} GB of scratch in {path.parent} '
        f'({error.strerror}); make room, or name another folder with scratch',
      ) from error

  def __getitem__(self, slices: tuple[slice, slice]) -> np.ndarray:
    rows, columns = self._ranges(slices)
    block = np.empty((len(rows), len(columns)), self.dtype)
    for part, start in self._rows(block, rows, columns):
      self._check(os.preadv(self._file.fileno(), [part], start), part)
    return block

  def __setitem__(self, slices: tuple[slice, slice], block: np.ndarray) -> None:
    rows, columns = self._ranges(slices)
    whole = np.empty((len(rows), len(columns)), self.dtype)
    whole[:] = block
    for part, start in self._rows(whole, rows, columns):
      self._check(os.pwrite(self._file.fileno(), part, start), part)

  def _check(self, moved: int, part: memoryview) -> None:
    if moved != len(part):
      raise OSError(errno.EIO, 'scratch is cut off', self._file.name)

  def _ranges(self, slices: tuple[slice, slice]) -> tuple[range, range]:
    rows, columns = (
      range(size)[part] for size, part in zip(self.shape, slices, strict=True)
    )
    if rows.step != 1 or columns.step != 1:
      raise ValueError(f'scratch is read by whole blocks, found {slices}')
    return rows, columns

  def _rows(
    self, block: np.ndarray, rows: range, columns: range
  ) -> Iterator[tuple[memoryview, int]]:
    """Gives the bytes of each row of a block, and their place in the file."""
    if not block.size:
      return
    pixel = self.dtype.itemsize
    for row, values in zip(rows, block.view(np.uint8), strict=True):
      yield values.data, (row * self.shape[1] + columns.start) * pixel


def _reserve(file: int, size: int) -> None:
  """Lengthens a file by zeros that the disk is sure to have room for.

  A map of a file that the disk has no room for would kill the process. Some
  systems (macOS, Windows) and file systems cannot promise it.
  """
  if hasattr(os, 'posix_fallocate'):
    try:
      return os.posix_fallocate(file, 0, size)
    except OSError as error:
      if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
        raise
  os.truncate(file, size)
