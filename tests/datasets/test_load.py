import dataclasses
import pathlib
import signal
import subprocess
import sys
import textwrap

import numpy as np
import pytest
from tensorflow_datasets.core import shuffle
from tiny_sets import cells, write_folder

from cellseg_jax.config import ConfigError, DataConfig
from cellseg_jax.datasets import builder, simulated
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import (
  hold_out,
  hold_out_crops,
  load,
  load_whole,
)
from cellseg_jax.images import formats, label_files
from cellseg_jax.images.labels import LabelError

SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'


def labelled(name='a', labels=None):
  labels = cells()[1].astype(np.int32) if labels is None else labels
  valid = np.ones(labels.shape, bool)
  valid[0, 0] = False
  return LabelledImage(name, labels.astype(np.uint8), labels, valid)


def test_hold_out_is_spread_evenly():
  images = [labelled(str(i)) for i in range(7)]
  train, held = hold_out(images, 3)
  assert [image.name for image in held] == ['1', '3', '5']
  assert [image.name for image in train] == ['0', '2', '4', '6']
  for count in range(1, 7):
    assert len(hold_out(images, count)[1]) == count
  with pytest.raises(ConfigError, match=r'held_out is 7, .* at most 6'):
    hold_out(images, 7)


def names(images):
  return [image.name for image in images]


def test_training_images_are_named(tmp_path):
  folder = write_folder(tmp_path / 'set', ['a', 'b', 'c', 'd'])
  data = DataConfig(
    'labelled_folder', str(folder), cache=str(tmp_path / 'cache')
  )
  splits = load(dataclasses.replace(data, train_images='c,a'))
  assert names(splits.train) == ['a', 'c']
  assert names(splits.validation) == ['b', 'd']
  assert splits.validation_source == 'other training images'
  assert all(image.valid.all() for image in splits.train)
  # Where others are there to choose on, the unnamed are not used.
  splits = load(dataclasses.replace(data, train_images='d', held_out=1))
  assert (names(splits.train), names(splits.validation)) == (['d'], ['c'])
  every = load(dataclasses.replace(data, train_images='a,b,c,d'))
  assert every.validation_source == 'held-out crops of the training images'
  whole = load_whole(data)
  assert len(whole.train) == 4
  assert whole.validation == ()
  with pytest.raises(
    ConfigError, match=r"train_images: .* no training image 'e'; .* a, b, c, d"
  ):
    load(dataclasses.replace(data, train_images='a,e'))


def test_held_out_crops_do_not_overlap_and_cut_no_cell():
  images = [labelled(str(i)) for i in range(5)]
  train, held, source = hold_out_crops(images)
  assert source == 'held-out crops of the training images'
  corners = []
  for image, kept, crop in zip(images, train, held, strict=True):
    assert not (kept.valid & crop.valid).any()
    assert not (~image.valid & (kept.valid | crop.valid)).any()
    assert 0.7 < kept.valid.mean() < 0.8
    assert 0.1 < crop.valid.mean() < 0.26
    np.testing.assert_array_equal(kept.labels, image.labels)
    np.testing.assert_array_equal(crop.image, image.image)
    inside = np.unique(crop.labels[crop.labels > 0])
    assert len(inside)
    for value in inside:  # Each whole, and all of it to be judged.
      cell = image.labels == value
      np.testing.assert_array_equal(crop.labels == value, cell)
      assert crop.valid[cell].all()
    corners.append(tuple(np.argwhere(crop.valid).mean(axis=0).round() > 30))
  assert len(set(corners[:4])) >= 2
  assert corners[4] == corners[0]


def test_training_is_never_left_without_a_cell():
  labels = np.zeros((40, 40), np.int32)
  labels[3:9, 3:9] = 1
  lonely = labelled(labels=labels)
  train, held, source = hold_out_crops([lonely, labelled('b')])
  assert train[0].valid.sum() == lonely.valid.sum()
  assert [image.name for image in held] == ['b']
  train, held, source = hold_out_crops([lonely])
  assert source.startswith('the training images themselves')
  assert train == held == (lonely,)


def test_held_out_images(place):
  write_folder(place.path, 'abcd')
  splits = load(place.config(held_out=1))
  assert [image.name for image in splits.train] == ['a', 'b', 'd']
  assert [image.name for image in splits.validation] == ['c']
  assert splits.validation_source == 'held-out training images'
  named = load(place.config(held_out=1, validation_split='validation'))
  assert [image.name for image in named.validation] == ['c']
  with pytest.raises(ConfigError, match=r'held_out is 4, .* at most 3'):
    load(place.config(held_out=4))


def test_training_images_are_read_when_they_are_looked_at(place):
  write_folder(place.path, 'abcde')
  train = load(place.config(held_out=1)).train
  assert train[0] is not train[0]
  names = [image.name for image in train]
  assert names == ['a', 'b', 'd', 'e']
  assert [image.name for image in train[1::2]] == ['b', 'e']
  assert train[-1].name == 'e'
  with pytest.raises(IndexError):
    train[4]


def test_sets_of_any_size_are_written_in_order(place, monkeypatch):
  """TFDS's own way needs TensorFlow beyond what it keeps in memory."""
  monkeypatch.setattr(shuffle, 'MAX_MEM_BUFFER_SIZE', 1)
  monkeypatch.setattr(builder, 'SHARD', 2)
  write_folder(place.path / 'train', 'abcde')
  write_folder(place.path / 'validation', 'fg')
  splits = load(place.config())
  assert ''.join(image.name for image in splits.train) == 'abcde'
  assert ''.join(image.name for image in splits.validation) == 'fg'
  assert len(list(place.cache.rglob('*train.array_record*'))) == 3
  for seed, image in enumerate(splits.train):
    np.testing.assert_array_equal(image.image, cells(seed)[0])


def test_held_out_images_join_a_validation_split(place):
  write_folder(place.path / 'train', 'ab')
  write_folder(place.path / 'validation', 'c')
  splits = load(place.config(held_out=1))
  assert [image.name for image in splits.validation] == ['c', 'b']
  assert 'validation' in splits.validation_source
  assert 'held-out' in splits.validation_source


def test_only_a_named_split_that_is_absent_is_refused(place):
  write_folder(place.path / 'train', 'ab')
  write_folder(place.path / 'test', 'c')
  assert 'crops' in load(place.config()).validation_source
  with pytest.raises(
    ConfigError,
    match=r"data\.validation_split: there is no split 'val'; .* train, test",
  ):
    load(place.config(validation_split='val'))
  with pytest.raises(ConfigError, match=r'data\.train_split: .*no split'):
    load(place.config(train_split='fit'))


def test_training_split_without_cells_is_refused(place):
  write_folder(place.path / 'train', 'a')
  write_folder(place.path / 'validation', 'b')
  formats.write_labels(
    place.path / 'train' / 'labels' / 'a.tif', np.zeros((60, 80), int)
  )
  with pytest.raises(LabelError, match=r"no cell in the 1 images .*'train'"):
    load(place.config())


def test_cache_that_cannot_be_made_is_refused(place):
  write_folder(place.path, 'a')
  place.cache.write_text('a file')
  with pytest.raises(ConfigError, match=r'config\.data\.cache: cannot make'):
    load(place.config())


def test_default_cache_is_the_users(place, monkeypatch, tmp_path, capfd):
  write_folder(place.path, 'ab')
  monkeypatch.setenv('XDG_CACHE_HOME', str(tmp_path / 'xdg'))
  load(DataConfig(dataset='labelled_folder', path=str(place.path)))
  (copy,) = (tmp_path / 'xdg' / 'cellseg_jax').iterdir()
  assert copy.name.startswith('labelled_folder-')
  assert capfd.readouterr().out == ''  # TFDS keeps quiet.


def test_simulated_colonies_are_a_data_set(tmp_path, monkeypatch):
  assert simulated.SPLITS == {'train': 7, 'validation': 3, 'test': 3}
  monkeypatch.setattr(simulated, 'SPLITS', {'train': 1, 'validation': 1})
  splits = load(DataConfig(cache=str(tmp_path)))
  image, labels = simulated.simulate_colony(1)
  assert splits.validation[0].image.dtype == np.uint16
  np.testing.assert_array_equal(splits.validation[0].image, image)
  np.testing.assert_array_equal(splits.validation[0].labels, labels)
  assert splits.warnings == ()


SCRIPT = textwrap.dedent("""
  import sys
  from cellseg_jax.config import DataConfig
  from cellseg_jax.datasets import builder, load
  data = DataConfig('labelled_folder', sys.argv[1], cache=sys.argv[2])
  if 'die' in sys.argv:
    import os, signal
    example = builder.LabelledImages._example
    def die(self, pair, report):
      if pair.name == 'b':
        os.kill(os.getpid(), signal.SIGKILL)
      return example(self, pair, report)
    builder.LabelledImages._example = die
  splits = load.load(data)
  assert 'tensorflow' not in sys.modules
  print(len(splits.train))
""")


def start(place, *flags):
  return subprocess.Popen(
    [sys.executable, '-c', SCRIPT, place.path, place.cache, *flags],
    stdout=subprocess.PIPE,
    stderr=subprocess.PIPE,
    text=True,
  )


def test_two_at_once_without_tensorflow_after_one_was_killed(place):
  write_folder(place.path, 'abc')
  killed = start(place, 'die')
  assert killed.wait() == -signal.SIGKILL
  both = [start(place) for _ in range(2)]
  for process in both:
    out, err = process.communicate()
    assert (process.returncode, out) == (0, '3\n'), err
  assert len(list(place.cache.glob('labelled_folder-*'))) == 1


@pytest.mark.skipif(not SHARED.is_dir(), reason='needs ../shared/data')
def test_real_set_is_loaded_as_it_is(tmp_path):
  path = SHARED / 'phase_contrast'
  splits = load(DataConfig('labelled_folder', str(path), cache=str(tmp_path)))
  assert (len(splits.train), len(splits.validation)) == (7, 3)
  assert any('in several pieces' in text for text in splits.warnings)
  for split, images in (
    ('train', splits.train),
    ('validation', splits.validation),
  ):
    for image in images:
      file = f'{image.name}.tif'
      np.testing.assert_array_equal(
        image.image, formats.read_image(path / split / 'images' / file)
      )
      np.testing.assert_array_equal(
        image.labels, formats.read_labels(path / split / 'labels' / file)
      )


@pytest.mark.parametrize(
  ('sizes', 'expected'),
  [((0.5, 0.5), 0.5), ((0.5, 0.6), 0), ((0.5, None), 0), ((None, None), 0)],
)
def test_the_pixel_size_is_that_of_all_training_files(
  tmp_path, sizes, expected
):
  folder = write_folder(tmp_path / 'set', ['a', 'b'])
  for name, size in zip('ab', sizes, strict=True):
    label_files.write_labels(
      folder / 'images' / f'{name}.tif',
      cells()[0],
      pixel_size=size and (size, size),
    )
  data = DataConfig(
    dataset='labelled_folder',
    path=str(folder),
    cache=str(tmp_path / 'cache'),
  )
  assert load(data).pixel_size == pytest.approx(expected)
