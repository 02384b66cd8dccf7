import imageio.v3 as iio
import numpy as np
from PIL import Image
import pytest
import tifffile

from cellseg_jax.images import formats
from cellseg_jax.images.formats import ImageFileError


@pytest.fixture
def pixels():
  return np.random.default_rng(0).integers(0, 255, (40, 60), np.uint8)


@pytest.mark.parametrize('suffix', ['.tif', '.TIFF', '.png'])
@pytest.mark.parametrize('dtype', [np.uint8, np.uint16])
def test_reads_native_values(tmp_path, pixels, suffix, dtype):
  path = tmp_path / f'a{suffix}'
  iio.imwrite(path, pixels.astype(dtype) * (1 if dtype is np.uint8 else 256))
  image = formats.read_image(path)
  assert image.dtype == dtype
  np.testing.assert_array_equal(
    image, pixels.astype(dtype) * (1 if dtype is np.uint8 else 256)
  )


def test_reads_float_tiff_and_jpeg(tmp_path, pixels):
  tifffile.imwrite(tmp_path / 'a.tif', pixels.astype(np.float32) / 7)
  assert formats.read_image(tmp_path / 'a.tif').dtype == np.float32
  iio.imwrite(tmp_path / 'a.jpg', pixels)
  assert formats.read_image(tmp_path / 'a.jpg').shape == (40, 60)


@pytest.mark.parametrize(
  ('shape', 'options'),
  [
    ((40, 60, 2), {}),
    ((40, 60, 3), {}),
    ((40, 60, 6), {'metadata': {'axes': 'YXC'}}),
    ((2, 40, 60), {'imagej': True, 'metadata': {'axes': 'CYX'}}),
  ],
)
def test_channels_come_last(tmp_path, shape, options):
  array = np.arange(np.prod(shape), dtype=np.uint16).reshape(shape)
  tifffile.imwrite(tmp_path / 'a.tif', array, **options)
  expected = np.moveaxis(array, 0, -1) if shape[0] == 2 else array
  np.testing.assert_array_equal(
    formats.read_image(tmp_path / 'a.tif'), expected
  )


@pytest.mark.parametrize(
  ('shape', 'options', 'reading'),
  [
    ((2, 40, 60), {}, '2 channels, depths or times of 40x60'),
    ((40, 60, 6), {}, '40x60 with 6 channels'),
    (
      (5, 40, 60),
      {'imagej': True, 'metadata': {'axes': 'ZYX'}},
      r'depth \(5\)',
    ),
    ((5, 40, 60), {'imagej': True, 'metadata': {'axes': 'TYX'}}, r'time \(5\)'),
    ((2, 3, 40, 60), {'photometric': 'minisblack'}, '4 axes'),
  ],
)
def test_refuses_to_guess_axes(tmp_path, shape, options, reading):
  tifffile.imwrite(tmp_path / 'a.tif', np.zeros(shape, np.uint16), **options)
  with pytest.raises(ImageFileError, match=rf'a\.tif: shape .*{reading}'):
    formats.read_image(tmp_path / 'a.tif')


def test_refuses_two_images_in_one_file(tmp_path):
  with tifffile.TiffWriter(tmp_path / 'a.tif') as file:
    file.write(np.zeros((8, 9), np.uint8))
    file.write(np.zeros((5, 5), np.uint8))
  with pytest.raises(ImageFileError, match=r'a\.tif: holds 2 images'):
    formats.read_image(tmp_path / 'a.tif')


@pytest.mark.parametrize('name', ['a.tif', 'z.tif', 'a.png', 'a.jpg'])
@pytest.mark.parametrize('share', [0.1, 0.5, 0.95])
def test_cut_off_file_is_refused(tmp_path, pixels, name, share):
  path = tmp_path / name
  if name == 'z.tif':
    tifffile.imwrite(path, pixels, compression='zlib', rowsperstrip=8)
  else:
    iio.imwrite(path, pixels)
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  with pytest.raises(ImageFileError, match=f'{name}: .*save or copy it again'):
    formats.read_image(path)


def test_empty_absent_and_foreign_files_are_refused(tmp_path):
  (tmp_path / 'a.tif').touch()
  (tmp_path / 'b.tif').write_text('not an image')
  for name, fault in (
    ('a.tif', 'the file is empty'),
    ('b.tif', 'cannot be read'),
    ('c.tif', 'no such file'),
    ('d.czi', 'cannot read .czi'),
  ):
    with pytest.raises(ImageFileError, match=f'{name}: {fault}'):
      formats.read_image(tmp_path / name)


def test_lzw_tiff_is_read(tmp_path, pixels):
  Image.fromarray(pixels).save(tmp_path / 'a.tif', compression='tiff_lzw')
  np.testing.assert_array_equal(formats.read_image(tmp_path / 'a.tif'), pixels)


def test_codecs_that_tifffile_lacks_are_read_by_pillow(
  tmp_path, pixels, monkeypatch
):
  tifffile.imwrite(tmp_path / 'a.tif', pixels, compression='zlib')
  stack = np.stack([pixels, pixels])
  tifffile.imwrite(
    tmp_path / 'b.tif', stack, compression='zlib', metadata={'axes': 'CYX'}
  )
  monkeypatch.setattr(tifffile.TIFF, 'DECOMPRESSORS', {})
  np.testing.assert_array_equal(formats.read_image(tmp_path / 'a.tif'), pixels)
  with pytest.raises(
    ImageFileError, match=r'b\.tif: .*ADOBE_DEFLATE.*pip install im'
  ):
    formats.read_image(tmp_path / 'b.tif')


def test_palette_labels_are_indices(tmp_path):
  indices = np.arange(64, dtype=np.uint8).reshape(8, 8)
  picture = Image.fromarray(indices, mode='L').convert('P')
  picture.putpalette([value for i in range(256) for value in (i, 0, 255 - i)])
  picture.save(tmp_path / 'a.png')
  np.testing.assert_array_equal(
    formats.read_labels(tmp_path / 'a.png'), indices
  )
  assert formats.read_image(tmp_path / 'a.png').shape == (8, 8, 3)


def test_labels_with_channels_are_refused(tmp_path):
  iio.imwrite(tmp_path / 'a.png', np.zeros((8, 8, 3), np.uint8))
  with pytest.raises(ImageFileError, match=r'a\.png: a label image must be'):
    formats.read_labels(tmp_path / 'a.png')


@pytest.mark.parametrize(
  ('highest', 'dtype'), [(65535, np.uint16), (65536, np.uint32)]
)
def test_labels_round_trip(tmp_path, highest, dtype):
  labels = np.zeros((30, 20), np.int64)
  labels[3:9, 4:9] = highest
  path = tmp_path / 'a.tif'
  formats.write_labels(path, labels + 0)
  formats.write_labels(path, labels)  # Over an older file.
  found = formats.read_labels(path)
  assert found.dtype == dtype
  np.testing.assert_array_equal(found, labels)
  assert [file.name for file in tmp_path.iterdir()] == ['a.tif']


@pytest.mark.parametrize(
  'labels',
  [np.zeros((3, 3)), np.zeros((3, 3, 1), int), np.full((3, 3), -1)],
)
def test_unwritable_labels_leave_the_old_file(tmp_path, labels):
  path = tmp_path / 'a.tif'
  path.write_text('old')
  with pytest.raises(ValueError, match=r'a\.tif: labels must be'):
    formats.write_labels(path, labels)
  assert path.read_text() == 'old'


def test_a_failed_write_leaves_the_old_file(tmp_path, monkeypatch):
  path = tmp_path / 'a.tif'
  path.write_text('old')

  def half(file, *_, **__):
    file.write_text('half')
    raise OSError('disk full')

  monkeypatch.setattr(tifffile, 'imwrite', half)
  with pytest.raises(OSError, match='disk full'):
    formats.write_labels(path, np.zeros((3, 3), int))
  assert path.read_text() == 'old'
  assert [file.name for file in tmp_path.iterdir()] == ['a.tif']


def test_list_images_is_sorted_and_selective(tmp_path):
  for name in ('b.TIF', 'a.png', 'c.jpeg', '.d.tif', 'notes.txt'):
    (tmp_path / name).touch()
  (tmp_path / 'e.tif').mkdir()
  names = [path.name for path in formats.list_images(tmp_path)]
  assert names == ['a.png', 'b.TIF', 'c.jpeg']
  with pytest.raises(ImageFileError, match='nowhere: no such folder'):
    formats.list_images(tmp_path / 'nowhere')


def test_list_of_images_of_every_kind(tmp_path):
  for name in ('b.czi', 'a.png', 'c.ND2', 'notes.txt'):
    (tmp_path / name).touch()
  for name in ('d.ome.zarr', 'e.zarr', '.f.zarr'):
    (tmp_path / name).mkdir()
  (tmp_path / 'd.ome.zarr' / 'zarr.json').touch()
  (tmp_path / '.f.zarr' / '.zgroup').touch()
  found = formats.list_images(tmp_path, every_kind=True)
  names = ['a.png', 'b.czi', 'c.ND2', 'd.ome.zarr']
  assert [path.name for path in found] == names
