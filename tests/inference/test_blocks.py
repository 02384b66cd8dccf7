"""Blocks of an image, and images in files."""

import errno
import os

import numpy as np
import pytest

from cellseg_jax.inference.blocks import (
  Box,
  cut,
  in_turn,
  read_framed,
  Scratch,
)


def numbered(shape=(7, 9)):
  return np.arange(1, np.prod(shape) + 1).reshape(shape)


@pytest.mark.parametrize('size', [(1, 1), (3, 4), (7, 9), (50, 2)])
def test_blocks_cover_every_pixel_once_in_reading_order(size):
  boxes = cut((7, 9), size)
  seen = np.zeros((7, 9), int)
  for box in boxes:
    assert seen[box.slices].shape == box.shape
    assert box.shape <= size
    seen[box.slices] += 1
  assert (seen == 1).all()
  assert boxes == sorted(boxes)


@pytest.mark.parametrize('frame', [0, 1, 4, 20])
@pytest.mark.parametrize('size', [(1, 1), (3, 4), (7, 9)])
def test_a_frame_holds_the_neighbours_and_zeros_outside(size, frame):
  image = numbered()
  padded = np.pad(image, frame)
  for box in cut(image.shape, size):
    top, left = box.top, box.left
    height, width = box.shape
    expected = padded[top:, left:][: height + 2 * frame, : width + 2 * frame]
    np.testing.assert_array_equal(read_framed(image, box, frame), expected)


def test_a_framed_block_is_a_copy():
  image = numbered()
  read_framed(image, Box(0, 7, 0, 9), 0)[:] = 0
  assert image.min() == 1


def test_scratch_keeps_what_is_written(tmp_path):
  scratch = Scratch(tmp_path / 'a', (7, 9), np.int32)
  assert (scratch[0:7, 0:9] == 0).all()
  for box in cut((7, 9), (3, 4)):
    scratch[box.slices] = numbered()[box.slices]
    scratch[box.slices] += 1
  np.testing.assert_array_equal(scratch[2:6, 1:9], numbered()[2:6, 1:9] + 1)
  assert scratch[0:1, 0:1].dtype == np.int32
  scratch[2:2, 0:9] = 5
  assert scratch[2:2, 0:9].shape == (0, 9)
  scratch[:, :] = 3
  assert (scratch[:, :] == 3).all()
  with pytest.raises(ValueError, match='whole blocks'):
    scratch[::2, :]


def test_scratch_that_was_cut_off_is_an_error(tmp_path):
  scratch = Scratch(tmp_path / 'a', (7, 9), np.int32)
  os.truncate(tmp_path / 'a', 40)
  with pytest.raises(OSError, match='cut off'):
    scratch[0:7, 0:9]


def test_results_come_in_order_and_few_at_a_time():
  started, used = [], 0

  def square(number):
    started.append(number)
    return number**2

  for used, result in enumerate(in_turn(square, iter(range(20)), 3), 1):
    assert result == (used - 1) ** 2
    assert len(started) <= used + 4
  assert used == 20


def test_a_fault_in_a_thread_is_raised_in_its_turn():
  results = in_turn(lambda number: 1 // (number - 3), range(9), 2)
  assert [next(results) for _ in range(3)] == [-1, -1, -1]
  with pytest.raises(ZeroDivisionError):
    next(results)


@pytest.mark.skipif(
  not hasattr(os, 'posix_fallocate'), reason='nothing reserves room here'
)
def test_a_full_disk_is_an_error_before_anything_is_written(
  monkeypatch, tmp_path
):
  def full(*_):
    raise OSError(errno.ENOSPC, 'No space left on device')

  monkeypatch.setattr(os, 'posix_fallocate', full)
  with pytest.raises(
    OSError, match=r'cannot keep 8\.0 GB .*No space left'
  ) as e:
    Scratch(tmp_path / 'a', (40000, 50000), np.float32)
  assert e.value.errno == errno.ENOSPC
  assert str(tmp_path) in str(e.value)


@pytest.mark.skipif(
  not hasattr(os, 'posix_fallocate'), reason='nothing reserves room here'
)
def test_a_file_system_that_promises_nothing_will_do(monkeypatch, tmp_path):
  def unsupported(*_):
    raise OSError(errno.EOPNOTSUPP, 'Operation not supported')

  monkeypatch.setattr(os, 'posix_fallocate', unsupported)
  scratch = Scratch(tmp_path / 'a', (7, 9), np.float32)
  assert (scratch[0:7, 0:9] == 0).all()
