"""Block-wise images: how they are cut, read, computed in threads and stored.

The array protocols and the scratch files here are shared by prediction,
decoding and measuring of images that need not fit in memory.
"""

import collections
from collections.abc import Callable, Iterable, Iterator
import concurrent.futures
import errno
import os
import pathlib
import threading
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np

# Each worker thread holds a block in memory.
_MOST_WORKERS = 4

Item = TypeVar('Item')
Result = TypeVar('Result')


class Readable(Protocol):
  """An image that can be read by slices."""

  @property
  def shape(self) -> tuple[int, int]: ...

  def __getitem__(self, slices: Any, /) -> Any: ...


class Array(Readable, Protocol):
  """An image that can be read and written by slices: NumPy, Zarr, `Scratch`."""

  def __setitem__(self, slices: Any, block: Any, /) -> None: ...


class Each(Protocol):
  """Computes every item, and yields the results in the order of the items.

  `in_turn` computes in threads of this process. Implementations that use other
  processes require `compute` and its results to be serialisable.
  """

  def __call__(
    self, compute: Callable[[Item], Result], items: Iterable[Item], /
  ) -> Iterator[Result]: ...


class Box(NamedTuple):
  """A block of an image, in pixels; `bottom` and `right` are exclusive."""

  top: int
  bottom: int
  left: int
  right: int

  @property
  def slices(self) -> tuple[slice, slice]:
    """The block's rows and columns, for indexing an image."""
    return slice(self.top, self.bottom), slice(self.left, self.right)

  @property
  def shape(self) -> tuple[int, int]:
    """Height and width."""
    return self.bottom - self.top, self.right - self.left


def cut(shape: tuple[int, int], size: tuple[int, int]) -> list[Box]:
  """Cuts an image into blocks, in reading order.

  Args:
    shape: Height and width of the image.
    size: Height and width of a block; the last block of a row or column may be
      smaller.
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
  """Reads a block together with a frame of pixels on every side.

  Args:
    image: The image, (H, W).
    box: The block, of height h and width w.
    frame: Width of the frame in pixels; at least 0.

  Returns:
    The framed block, (h + 2 * frame, w + 2 * frame), always a copy; 0 outside
    the image.
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
  """Computes items in several threads and yields the results in order.

  At most `workers` + 1 results are being computed or held at a time.

  Args:
    compute: Called in other threads; its exceptions are raised here.
    items: The arguments, one per call, in order.
    workers: Number of threads.
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
  """An array whose writes are serialised by a lock.

  Neighbouring blocks of a compressed array may share a chunk, and writing a
  block reads, changes and rewrites the whole chunk.
  """

  def __init__(self, array: Any) -> None:
    """Wraps an array, which stays available as the attribute `array`."""
    self.array, self._lock = array, threading.Lock()
    self.shape, self.dtype = array.shape, array.dtype

  def __getitem__(self, slices: Any) -> Any:
    return self.array[slices]

  def __setitem__(self, slices: Any, block: Any) -> None:
    with self._lock:
      self.array[slices] = block


class Scratch:
  """An image in a file; only the blocks being read or written are in memory.

  Rows of a block are read and written by system calls rather than through a
  memory map: mapped pages count as memory of the process once touched, and are
  slower.
  """

  def __init__(
    self, path: pathlib.Path, shape: tuple[int, int], dtype: type
  ) -> None:
    """Creates the file, filled with zeros; it closes on garbage collection.

    Args:
      path: The file to create.
      shape: Height and width.
      dtype: Type of the pixels.

    Raises:
      OSError: The file cannot be created, or the disk has no room for it.
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
    """Yields the bytes of each row of a block and their offset in the file."""
    if not block.size:
      return
    pixel = self.dtype.itemsize
    for row, values in zip(rows, block.view(np.uint8), strict=True):
      yield values.data, (row * self.shape[1] + columns.start) * pixel


def _reserve(file: int, size: int) -> None:
  """Extends a file with zeros and reserves the disk space for them.

  A full disk is so reported at the start and not in the middle of the work.
  Some systems (macOS, Windows) and file systems cannot reserve space; there the
  file is only extended.
  """
  if hasattr(os, 'posix_fallocate'):
    try:
      return os.posix_fallocate(file, 0, size)
    except OSError as error:
      if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):
        raise
  os.truncate(file, size)
