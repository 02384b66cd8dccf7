import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from tiny_sets import cells, write_folder

from cellseg_jax.config import ConfigError
from cellseg_jax.datasets.load import load
from cellseg_jax.images import formats
from cellseg_jax.images.labels import LabelError


def test_folder_with_splits(place):
  write_folder(place.path / 'train', ['b', 'a'])
  write_folder(place.path / 'validation', ['c'], shape=(50, 66))
  splits = load(place.config())
  assert [image.name for image in splits.train] == ['a', 'b']
  assert splits.validation_source == "split 'validation'"
  assert splits.warnings == ()
  image, labels = cells(1)
  np.testing.assert_array_equal(splits.train[0].image, image)
  np.testing.assert_array_equal(splits.train[0].labels, labels)
  assert splits.train[0].labels.dtype == np.int32
  assert splits.train[0].valid.all()
  assert splits.validation[0].image.shape == (50, 66)


def test_flat_folder_of_sizes_and_formats(place):
  write_folder(place.path, ['a'])
  image, labels = cells(3, shape=(40, 100))
  iio.imwrite(place.path / 'images' / 'b.png', image)
  iio.imwrite(place.path / 'labels' / 'b.png', labels)
  splits = load(place.config())
  assert [i.image.shape for i in splits.train] == [(60, 80), (40, 100)]
  np.testing.assert_array_equal(splits.train[1].labels, labels)


def test_several_channels(place):
  write_folder(place.path, ['a', 'b'])
  for name in 'ab':
    image, _ = cells()
    tifffile.imwrite(
      place.path / 'images' / f'{name}.tif', np.stack([image] * 3, axis=-1)
    )
  assert load(place.config(channels=3)).train[0].image.shape == (60, 80, 3)
  with pytest.raises(LabelError, match=r'images.a\.tif: .*data\.channels=3'):
    load(place.config())


def test_ignored_pixels_are_not_valid(place):
  write_folder(place.path / 'train', ['a'])
  write_folder(place.path / 'validation', ['b'])
  path = place.path / 'train' / 'labels' / 'a.tif'
  labels = formats.read_labels(path)
  labels[:, -6:] = 255
  formats.write_labels(path, labels)
  valid = load(place.config(ignore_value=255)).train[0].valid
  np.testing.assert_array_equal(valid, labels != 255)


def test_an_edited_label_is_never_used_in_its_old_form(place):
  write_folder(place.path / 'train', ['a'])
  write_folder(place.path / 'validation', ['b'])
  before = load(place.config())
  assert load(place.config()).digest == before.digest
  path = place.path / 'train' / 'labels' / 'a.tif'
  labels = formats.read_labels(path)
  labels[labels == 1] = 0
  formats.write_labels(path, labels)
  after = load(place.config())
  assert after.digest != before.digest
  assert before.files.keys() == after.files.keys()
  assert {
    name for name in after.files if after.files[name] != before.files[name]
  } == {'train/labels/a.tif'}
  np.testing.assert_array_equal(after.train[0].labels, labels)
  assert (before.train[0].labels == 1).any()
  assert load(place.config(ignore_value=9)).digest != after.digest


def test_all_faults_are_reported_together(place):
  write_folder(place.path / 'train', [f'n{i:02d}' for i in range(14)])
  write_folder(place.path / 'validation', ['v'])
  for path in sorted((place.path / 'train' / 'labels').iterdir())[:11]:
    formats.write_labels(path, formats.read_labels(path)[1:])
  cut = place.path / 'validation' / 'images' / 'v.tif'
  cut.write_bytes(cut.read_bytes()[:-100])
  with pytest.raises(LabelError) as error:
    load(place.config())
  lines = str(error.value).splitlines()
  assert '12 of 15 images cannot be trained on' in lines[0]
  assert 'n00.tif: labels are of shape (59, 80)' in lines[1]
  assert lines[-1].strip() == 'and 2 more'
  assert not any(place.cache.iterdir())  # Nothing half-made is left.


def test_unreadable_file_is_named(place):
  write_folder(place.path, ['a', 'b'])
  (place.path / 'images' / 'b.tif').write_bytes(b'II*\0')
  with pytest.raises(LabelError, match=r'1 of 2 .*\n.*b\.tif: cannot be read'):
    load(place.config())


def test_no_cell_in_the_whole_set_is_refused(place):
  write_folder(place.path, ['a', 'b'])
  for path in (place.path / 'labels').iterdir():
    formats.write_labels(path, np.zeros((60, 80), int))
  with pytest.raises(LabelError, match='no cell in any of 2 label images'):
    load(place.config())


def test_warnings_are_counted_by_kind_and_kept_with_the_copy(place):
  write_folder(place.path, ['a', 'b', 'c', 'd'])
  formats.write_labels(place.path / 'labels' / 'b.tif', np.zeros((60, 80), int))
  labels = formats.read_labels(place.path / 'labels' / 'c.tif')
  labels[0, :2] = 1
  labels[-1, :2] = 99
  formats.write_labels(place.path / 'labels' / 'c.tif', labels)
  (place.path / 'labels' / 'd.tif').unlink()
  (place.path / 'labels' / 'e.png').touch()
  for _ in range(2):
    unmatched, pieces, tiny, empty = load(place.config()).warnings
    assert 'same name: 2 (' in unmatched
    assert 'd.tif' in unmatched
    assert pieces == 'labels in several pieces (each counts as one cell): 1'
    assert tiny == 'labels smaller than 30 pixels: 1'
    assert empty == 'images without a cell: 1'


def test_binary_labels_need_the_option(place):
  write_folder(place.path, ['a', 'b'])
  for path in (place.path / 'labels').iterdir():
    formats.write_labels(path, (formats.read_labels(path) > 0).astype(int))
  with pytest.raises(LabelError, match=r'a\.tif: labels are binary'):
    load(place.config())
  splits = load(place.config(binary_labels='components'))
  assert splits.train[0].labels.max() == cells()[1].max()


def test_duplicate_names_are_refused(place):
  write_folder(place.path, ['a'])
  iio.imwrite(place.path / 'images' / 'a.png', cells()[0])
  with pytest.raises(LabelError, match=r'a\.tif: duplicate name, .* a\.png'):
    load(place.config())


def test_folders_that_are_not_as_expected_are_refused(place):
  with pytest.raises(ConfigError, match=r'data\.path: .*no folder .*images'):
    load(place.config())
  write_folder(place.path, [])
  with pytest.raises(ConfigError, match='none of 0 images'):
    load(place.config())
  write_folder(place.path / 'train', ['a'])
  with pytest.raises(ConfigError, match='one of the two layouts'):
    load(place.config())
  place.path = place.path / 'elsewhere'
  with pytest.raises(ConfigError, match=r'there is no folder .*elsewhere'):
    load(place.config())
