"""Bytes as an image and its labels: checked, or refused by a `LabelError`."""

import numpy as np

from cellseg_jax.images.labels import check_pair, LabelError
from fuzz.take import Take

TYPES = ('u1', '>u2', 'u4', 'u8', 'i1', 'i2', '<i8', 'f2', 'f4', 'f8', '?')
OTHER_TYPES = ('c8', 'S3', 'U2', 'M8[s]', 'V2', 'O')


def array(take):
  """An array of any type and of up to three small axes."""
  dtype = np.dtype(take.choice(TYPES * 4 + OTHER_TYPES))
  axes = take.choice((2, 2, 2, 2, 3, 1, 0))
  shape = [take.number(40) for _ in range(axes)]
  if dtype.hasobject:
    return np.full(shape, take.choice((None, 1, 'a', -(2**70))), object)
  data = take.piece(dtype.itemsize * take.number(600))
  data = data[: len(data) // dtype.itemsize * dtype.itemsize]
  if not data:
    return np.zeros(shape, dtype)
  return np.resize(np.frombuffer(data, dtype), shape)


def one_input(data):
  """Checks what the bytes stand for."""
  take = Take(data)
  options = {
    'channels': take.choice((1, 1, 1, 3, 0)),
    'binary_labels': take.choice(('refuse', 'components', 'instances')),
    'ignore_value': take.choice((-1, 0, 1, 255, 2**32 - 1)),
  }
  image = array(take)
  labels = array(take)
  if take.number(2):  # Else most pairs are refused for their sizes.
    labels = np.resize(labels, image.shape[:2])
  try:
    found = check_pair(image, labels, 'a.tif', **options)
  except LabelError:
    return
  assert found.labels.dtype == np.int32
  assert found.labels.shape == found.valid.shape == labels.shape
  assert found.labels.min() >= 0
  assert not found.labels[~found.valid].any()


def seeds():
  """A few that reach the later checks."""
  rng = np.random.default_rng(0)
  for kind in range(8):
    head = bytes([0, 0, 0, kind, 0, 20, 20, 200, 0])
    yield head + rng.integers(0, 4, 1000, np.uint8).tobytes()
