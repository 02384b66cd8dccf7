"""TensorBoard's files: read back with the format's own definitions."""

import io
import struct

import imageio.v3 as iio
import numpy as np
import pytest
from tensorboardX.proto.event_pb2 import Event
from tensorboardX.record_writer import masked_crc32c

from cellseg_jax.evaluation.look import Look
from cellseg_jax.training.events import crop, Events, SIDE


def read(folder):
  """The events of a folder's only file; their checksums are compared."""
  (path,) = folder.iterdir()
  assert 'tfevents' in path.name
  file, events = io.BytesIO(path.read_bytes()), []
  while header := file.read(8):
    (length,) = struct.unpack('<Q', header)
    assert struct.unpack('<I', file.read(4))[0] == masked_crc32c(header)
    data = file.read(length)
    assert struct.unpack('<I', file.read(4))[0] == masked_crc32c(data)
    events.append(Event.FromString(data))
  return events


def a_look(shape=(300, 400)):
  image = np.random.default_rng(0).integers(0, 4096, shape)
  labels = np.zeros(shape, np.int32)
  labels[100:200, 100:200] = 1
  valid = np.ones(shape, bool)
  probability = np.float32(labels)
  return Look('a name', image, valid, labels, labels, {1: 1.0}, probability)


def test_scalars_and_pictures_are_there(tmp_path):
  look = a_look()
  with Events(tmp_path / 'events', 30, pytest.fail) as events:
    events.scalars(40, {'loss': 0.5, 'learning_rate': None})
    events.scalars(40, {'f1': 0.75}, 'validation')
    events.pictures(40, [look])
  version, start, loss, f1, picture = read(tmp_path / 'events')
  assert version.file_version == 'brain.Event:2'
  assert (start.step, start.session_log.status) == (31, 1)
  (value,) = loss.summary.value
  assert (loss.step, value.tag, value.simple_value) == (
    40,
    'training/loss',
    0.5,
  )
  (value,) = f1.summary.value
  assert (value.tag, value.simple_value) == ('validation/f1', 0.75)
  (value,) = picture.summary.value
  assert value.tag == 'validation/a_name'
  shown = iio.imread(value.image.encoded_image_string)
  np.testing.assert_array_equal(shown, crop(look))


def test_the_crop_is_the_middle():
  shown = crop(a_look())
  assert shown.shape == (SIDE, 3 * SIDE, 3)
  assert shown.dtype == np.uint8
  red = shown[:, SIDE : 2 * SIDE]
  cell = np.argwhere(red[..., 0] > red[..., 2])
  assert cell.min(0).tolist() == [100 - 22, 100 - 72]
  assert crop(a_look((210, 220))).shape == (210, 660, 3)


def test_a_full_disk_is_told_once_and_nothing_more(tmp_path, monkeypatch):
  told = []
  with Events(tmp_path / 'events', 0, told.append) as events:

    def full(data):
      raise OSError(28, 'No space left on device')

    monkeypatch.setattr(events._writer, 'write_event', full)
    for step in range(100):
      events.scalars(step, {'loss': 1.0})
  assert len(told) == 1
  assert 'No space left on device' in told[0]


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
  told = []
  (tmp_path / 'events').write_text('a file')
  with Events(tmp_path / 'events', 0, told.append) as events:
    events.scalars(1, {'loss': 1.0})
  assert len(told) == 1
