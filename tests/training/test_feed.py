"""Crops are the same from images on the devices and streamed from the disk."""

import functools
import itertools

import jax
import numpy as np
import pytest
import quick
from tiny_networks import use_a_line
from tiny_sets import cells

from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import Splits
from cellseg_jax.datasets.survey import survey
from cellseg_jax.serialization import replace
from cellseg_jax.training import feed as feed_lib
from cellseg_jax.training import parallel
from cellseg_jax.training.augment import (
  most_reach,
  reach,
  sample_coordinates,
)
from cellseg_jax.training.optimizer import make_optimizer
from cellseg_jax.training.places import crop_keys
from cellseg_jax.training.step import draw, init_state, train_step

ALL = {
  'scale': 1.3,
  'elastic': 2.0,
  'elastic_spacing': 8,
  'gain': 1.2,
  'gamma': 1.2,
  'blur': 1.0,
  'noise': 0.1,
  'centred': 0.5,
}
OFF = {'roll': False, 'flip': False, 'rotate': False}


def splits_of(shapes=((60, 41), (140, 150)), apart=True):
  images = []
  for seed, shape in enumerate(shapes):
    image, labels = cells(seed, shape)
    labels = labels.astype(np.int32)
    images.append(LabelledImage(str(seed), image, labels, labels >= 0))
  return Splits(tuple(images), (), '', (), 'digest', {}, apart=apart)


def config_of(cache, **augmentation):
  return replace(
    Config(),
    data={'cache': str(cache)},
    augmentation=augmentation,
    optimizer={'warmup_fraction': 0.0},
    training={
      'crop_size': 32,
      'batch_size': 4 * jax.device_count(),
      'steps': 6,
      'seed': 3,
    },
  )


def feeds(config, splits=None):
  """Both forms of the same images."""
  splits = splits or splits_of()
  found = survey(splits.train)
  return [
    feed_lib.make_feed(
      splits, replace(config, training={'stream': how}), found, print
    )
    for how in ('never', 'always')
  ]


def leaves(tree):
  return [np.asarray(leaf) for leaf in jax.tree.leaves(tree)]


@pytest.mark.parametrize('changes', [ALL, OFF])
def test_crops_are_equal_bit_for_bit(tmp_path, changes):
  config = config_of(tmp_path, **changes)
  resident, streamed = feeds(config)
  samples = np.arange(config.training.batch_size)
  crops = quick.jit(draw, static_argnums=3)
  sources = set()
  for step in (0, 1, 255, 256):
    expected = crops(step, samples, resident.at(step), config)
    found = crops(step, samples, streamed.at(step), config)
    for a, b in zip(leaves(found), leaves(expected), strict=True):
      np.testing.assert_array_equal(a, b)
    sources |= set(leaves(found.sources)[0].tolist())
  assert sources == {0, 1}


def test_losses_and_weights_are_equal(monkeypatch, tmp_path):
  use_a_line(monkeypatch)
  config = config_of(tmp_path)
  optimizer = make_optimizer(config.optimizer, 6)
  step = functools.partial(
    train_step, config=config, optimizer=optimizer, batch_size=4
  )
  ends = []
  for feed in feeds(config):
    advance = parallel.parallel_steps(step, 3, feed.streamed)
    state = parallel.replicate(init_state(config, optimizer))
    losses = []
    for pool in itertools.islice(feed.calls(0, 3), 2):
      state, loss = advance(state, pool)
      losses += list(np.asarray(loss))
    assert len(losses) == 6
    ends.append((losses, state))
  for a, b in zip(*map(leaves, ends), strict=True):
    np.testing.assert_array_equal(a, b)


def test_a_stream_goes_on_from_any_step(tmp_path):
  config = config_of(tmp_path)
  _, streamed = feeds(config)
  whole = [leaves(windows) for windows in streamed.calls(0, 1)]
  later = [leaves(windows) for windows in streamed.calls(4, 1)]
  assert (len(whole), len(later)) == (6, 2)
  for found, expected in zip(later, whole[4:], strict=True):
    for a, b in zip(found, expected, strict=True):
      np.testing.assert_array_equal(a, b)


def test_processes_read_their_own_samples_and_no_others(monkeypatch, tmp_path):
  config = config_of(tmp_path)
  _, streamed = feeds(config)
  whole = streamed.at(2)
  read = []
  fill = streamed._tiles.read
  monkeypatch.setattr(
    streamed._tiles,
    'read',
    lambda *place: read.append(place[0]) or fill(*place),
  )
  count, local = jax.device_count(), jax.local_device_count()
  monkeypatch.setattr(jax, 'device_count', lambda: 2 * local)
  samples = []
  for process in range(2):
    monkeypatch.setattr(jax, 'process_index', lambda: process)  # noqa: B023
    samples.append(parallel.local_samples(8 * local))
  assert [list(of) for of in samples] == [
    list(range(4 * local)),
    list(range(4 * local, 8 * local)),
  ]
  halves = [range(2), range(2, 4 * count)]
  parts = [streamed.windows(2, half) for half in halves]
  assert read == list(whole.images)
  for a, *b in zip(leaves(whole), *map(leaves, parts), strict=True):
    np.testing.assert_array_equal(np.concatenate(b), a)


@pytest.mark.parametrize('changes', [OFF, {}, ALL, {'elastic': 6.0}])
def test_crops_are_read_within_their_reach(changes):
  config = config_of('', **changes).augmentation
  at = np.zeros(2, np.int32)

  def read(keys):
    coordinates = sample_coordinates(keys, at, config, 32)
    return coordinates.min(), coordinates.max(), reach(keys, config, 32)

  keys = crop_keys(jax.random.split(jax.random.key(0), 2000))
  low, high, beyond = map(np.asarray, quick.jit(jax.vmap(read))(keys))
  assert (low >= -beyond).all()
  # One more pixel is read beyond the largest.
  assert (np.floor(high) + 1 < 32 + beyond).all()
  most = most_reach(config, 32)
  assert beyond.max() <= most
  # Nor are they much larger than needed; few displacements are the largest.
  spare = 3 + 10 * changes.get('elastic', 0) * config.scale * 2**0.5
  assert (low + beyond).max() < spare
  assert most - beyond.max() <= 1


def test_large_sets_are_streamed(monkeypatch):
  config = config_of('')
  small = survey(splits_of().train)
  monkeypatch.setattr(feed_lib, 'device_memory', lambda: 2**30)
  assert not feed_lib.is_streamed(config, small)
  # 2 images, padded to 140 x 150, of 3 float32 a pixel.
  monkeypatch.setattr(feed_lib, 'device_memory', lambda: 4 * 2 * 140 * 150 * 12)
  assert not feed_lib.is_streamed(config, small)
  monkeypatch.setattr(feed_lib, 'device_memory', lambda: 4 * 2 * 140 * 149 * 12)
  assert feed_lib.is_streamed(config, small)
  never = replace(config, training={'stream': 'never'})
  assert not feed_lib.is_streamed(never, small)
  huge = small._replace(shapes=((2**14, 2**14),) * 8)
  monkeypatch.setattr(feed_lib, 'device_memory', lambda: 2**50)
  assert feed_lib.is_streamed(config, huge)
  with pytest.raises(ConfigError, match=r"stream is 'never', but 8 .* 16384 x"):
    feed_lib.is_streamed(never, huge)


def test_the_memory_of_a_device_is_known():
  assert 2**28 < feed_lib.device_memory() < 2**50


def test_images_that_are_validated_on_cannot_be_streamed(tmp_path):
  with pytest.raises(ConfigError, match=r'add a validation split, .*held_out'):
    feeds(config_of(tmp_path), splits_of(apart=False))
