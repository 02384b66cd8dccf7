"""Files of every kind, opened and read by blocks."""

import pathlib
import struct
import tracemalloc
import zlib

import imageio.v3 as iio
import numpy as np
from PIL import Image
import pytest
import tifffile

from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.source import open_image

STACK = np.random.default_rng(0).integers(0, 60_000, (2, 3, 40, 60), np.uint16)


def write(path, array, **options):
  tifffile.imwrite(path, array, **options)
  return path


def imagej(axes, **metadata):
  return {'imagej': True, 'metadata': {'axes': axes, **metadata}}


def ome(axes, **metadata):
  return {'ome': True, 'metadata': {'axes': axes, **metadata}}


def png(header, pixels):
  """A PNG file of this header and these rows."""
  content = b'\x89PNG\r\n\x1a\n'
  for kind, data in (
    (b'IHDR', header),
    (b'IDAT', zlib.compress(pixels)),
    (b'IEND', b''),
  ):
    checksum = zlib.crc32(kind + data)
    content += struct.pack('>I', len(data)) + kind + data
    content += struct.pack('>I', checksum)
  return content


@pytest.mark.parametrize(
  ('array', 'options', 'axes'),
  [
    (STACK[0, 0], {}, 'YX'),
    (STACK[0, 0].astype('>u2'), {'byteorder': '>'}, 'YX'),
    (STACK[0, 0].astype(np.float64), {'compression': 'zlib'}, 'YX'),
    (STACK[0, 0].astype(np.float16), {'tile': (16, 32)}, 'YX'),
    (STACK[0, 0].astype(np.int32), {'rowsperstrip': 7}, 'YX'),
    (STACK[0, 0] > 9000, {}, 'YX'),
    (STACK[0], imagej('ZYX'), 'ZYX'),
    (STACK, imagej('TCYX'), 'TCYX'),
    (STACK, {**ome('CZYX'), 'compression': 'zlib'}, 'CZYX'),
    (STACK[:1], {**ome('TCYX'), 'tile': (16, 16)}, 'CYX'),
    (
      STACK[0],
      {'metadata': {'axes': 'CYX'}, 'photometric': 'minisblack'},
      'CYX',
    ),
    (np.moveaxis(STACK[0], 0, -1), {'photometric': 'rgb'}, 'YXS'),
    (STACK[0], {'photometric': 'rgb'}, 'SYX'),
  ],
)
def test_tiff_is_read_by_blocks(tmp_path, array, options, axes):
  path = write(tmp_path / 'a.tif', array, **options)
  expected = array[0] if axes == 'CYX' and array.ndim == 4 else array
  with open_image(path) as source:
    assert (source.axes, source.shape) == (axes, expected.shape)
    assert source.dtype == array.dtype.newbyteorder('=')
    assert source.size('Y') == 40
    block = (..., slice(5, 31), slice(7, 50))
    for index in (..., block, (0, block[0]), (block[0], slice(None, None, 3))):
      found = source[index]
      assert found.dtype == source.dtype
      np.testing.assert_array_equal(found, expected[index])


def test_a_pyramid_is_read_at_full_resolution(tmp_path):
  path = tmp_path / 'a.ome.tif'
  with tifffile.TiffWriter(path) as file:
    options = {'tile': (16, 16), 'metadata': {'axes': 'YX'}}
    file.write(STACK[0, 0], subifds=1, **options)
    file.write(STACK[0, 0, ::2, ::2], subfiletype=1, tile=(16, 16))
  with open_image(path) as source:
    np.testing.assert_array_equal(source.read(), STACK[0, 0])


@pytest.mark.parametrize(
  ('options', 'pixel_size', 'names'),
  [
    (
      ome(
        'ZCYX',
        PhysicalSizeX=650,
        PhysicalSizeXUnit='nm',
        PhysicalSizeY=0.5,
        Channel={'Name': ['DAPI', '007', 'G,F']},
      ),
      (0.5, 0.65),
      ('DAPI', '007', 'G,F'),
    ),
    (ome('ZCYX', PhysicalSizeX=1.0), None, ()),
    (ome('ZCYX', PhysicalSizeX=0.0, PhysicalSizeY=1.0), None, ()),
    (
      {**imagej('ZCYX', unit='micron'), 'resolution': (2.0, 4.0)},
      (0.25, 0.5),
      (),
    ),
    ({**imagej('ZCYX', unit='\\u00B5m'), 'resolution': (2, 2)}, (0.5, 0.5), ()),
    # A print resolution is not the size of a pixel.
    ({**imagej('ZCYX'), 'resolution': (72, 72)}, None, ()),
    (
      {
        'metadata': {'axes': 'ZCYX'},
        'photometric': 'minisblack',
        'resolution': (72, 72),
        'resolutionunit': 'INCH',
      },
      None,
      (),
    ),
  ],
)
def test_pixel_size_and_channel_names(tmp_path, options, pixel_size, names):
  with open_image(write(tmp_path / 'a.tif', STACK, **options)) as source:
    assert source.pixel_size == pixel_size
    assert source.channel_names == names


@pytest.mark.parametrize(
  ('name', 'array', 'axes'),
  [
    ('a.png', STACK[0, 0], 'YX'),
    ('a.png', np.uint8(STACK[0, 0] % 256), 'YX'),
    ('a.PNG', np.uint8(STACK[0, 0, :, :, None] % [256, 99, 7]), 'YXS'),
    ('a.png', np.uint8(STACK[0, 0, :, :, None] % [256, 99, 7, 3]), 'YXS'),
    ('a.png', np.zeros((3, 3, 3), np.uint8), 'YXS'),
    ('a.jpeg', np.full((9, 8), 7, np.uint8), 'YX'),
    ('a.jpg', np.full((9, 8, 3), 7, np.uint8), 'YXS'),
  ],
)
def test_png_and_jpeg(tmp_path, name, array, axes):
  iio.imwrite(tmp_path / name, array)
  with open_image(tmp_path / name) as source:
    assert (source.axes, source.dtype) == (axes, array.dtype)
    np.testing.assert_array_equal(source[1:3, ::2], array[1:3, ::2])
    np.testing.assert_array_equal(source.read(), array)


def test_a_png_that_pillow_would_round_is_refused(tmp_path):
  header = b'\x00\x00\x00\x02\x00\x00\x00\x02\x10\x02\x00\x00\x00'
  content = png(header, bytes(2 * (1 + 2 * 6)))
  (tmp_path / 'a.png').write_bytes(content)
  with (
    pytest.raises(ImageFileError, match=r'a\.png: has colours of 16 bits'),
    open_image(tmp_path / 'a.png'),
  ):
    pass


@pytest.mark.parametrize(
  'options',
  [
    {},
    {'byteorder': '>'},
    {'tile': (256, 256)},
    {'tile': (256, 256), 'compression': 'zlib'},
    {'rowsperstrip': 16, 'compression': 'zlib'},
    {'rowsperstrip': 16, 'compression': 'zlib', 'predictor': True},
  ],
)
def test_a_block_costs_the_memory_of_a_block(tmp_path, options):
  array = np.zeros((3000, 2000), np.uint16)
  array[100:200, 100:200] = 5
  path = write(tmp_path / 'a.tif', array, **options)
  with open_image(path) as source:
    source[:10, :10]  # What is imported late.
    tracemalloc.start()
    block = source[90:110, 90:110]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
  np.testing.assert_array_equal(block, array[90:110, 90:110])
  assert peak < array.nbytes / 10


def test_axes_of_the_user_hold(tmp_path):
  path = write(tmp_path / 'a.tif', STACK[0], photometric='minisblack')
  with open_image(path, 'tyx') as source:
    assert source.axes == 'TYX'
  path = write(tmp_path / 'b.tif', STACK[0], **imagej('ZYX'))
  with open_image(path, 'CYX') as source:
    assert source.axes == 'CYX'


@pytest.mark.parametrize(
  ('shape', 'options', 'axes', 'message'),
  [
    (
      (2, 40, 60),
      {},
      None,
      'may be 2 channels, depths or times of 40x60 (--axes CYX, ZYX or TYX); '
      'or 2x40 with 60 channels (--axes YXC)',
    ),
    ((40, 60, 4), {}, None, '40x60 with 4 channels (--axes YXC or YXS)'),
    ((2, 3, 40, 60), {}, None, '4 axes (--axes TCYX, TZYX, CTYX, CZYX, '),
    ((2, 40, 60, 3), {'photometric': 'rgb'}, None, '(--axes TYXS, CYXS or ZYX'),
    ((2, 40, 60), {}, 'YX', 'axes YX are 2, but the image is of shape (2, 40'),
    ((2, 40, 60), {'metadata': {'axes': 'PYX'}}, None, 'has axes PYX, of whic'),
  ],
)
def test_axes_are_not_guessed(tmp_path, shape, options, axes, message):
  options = {'photometric': 'minisblack', **options}
  path = write(tmp_path / 'a.tif', np.zeros(shape, np.uint8), **options)
  with (
    pytest.raises(ImageFileError) as error,
    open_image(path, axes),
  ):
    pass
  assert str(error.value).startswith(f'{path}: ')
  assert message in str(error.value)


@pytest.mark.parametrize('axes', ['Y', 'YXX', 'CTZ', 'QYX', ''])
def test_axes_that_cannot_be(tmp_path, axes):
  path = write(tmp_path / 'a.tif', STACK[0], photometric='minisblack')
  with pytest.raises(ValueError, match='axes must be letters of TCZYXS'):
    open_image(path, axes).__enter__()


def test_one_of_several_images(tmp_path):
  path = tmp_path / 'a.tif'
  with tifffile.TiffWriter(path, ome=True) as file:
    file.write(STACK[0, 0], metadata={'Name': 'overview', 'PhysicalSizeX': 2})
    size = {'PhysicalSizeX': 1.0, 'PhysicalSizeY': 1.0}
    file.write(STACK[1], metadata={'Name': 'b', 'axes': 'ZYX', **size})
  for scene in ('1', 'b'):
    with open_image(path, scene=scene) as source:
      assert source.pixel_size == (1, 1)
      np.testing.assert_array_equal(source.read(), STACK[1])
  for scene in ('', '2', 'c'):
    with pytest.raises(
      ImageFileError, match=r'overview \(40, 60\), 1 b .*--sc'
    ):
      open_image(path, scene=scene).__enter__()


def read_by_rows(path, **options):
  with open_image(path, **options) as source:
    for y in range(0, source.size('Y'), 8):
      source[y : y + 8]


def refused(path, **options):
  """The text of the error that opening and reading a file gives."""
  with pytest.raises(ImageFileError) as error:
    read_by_rows(path, **options)
  assert '\n' not in str(error.value)
  assert str(path) in str(error.value)
  return str(error.value)


@pytest.mark.parametrize(
  'name', ['a.tif', 'z.tif', 't.tif', 's.tif', 'm.tif', 'o.tif', 'a.png']
)
@pytest.mark.parametrize('share', [0.02, 0.5, 0.97])
def test_a_cut_off_file_is_refused(tmp_path, name, share):
  path = tmp_path / name
  if name == 'a.png':
    iio.imwrite(path, STACK[0, 0])
  else:
    options = {
      'a.tif': {},
      'z.tif': {'compression': 'zlib', 'rowsperstrip': 8},
      't.tif': {'tile': (16, 16)},
      's.tif': imagej('TCYX'),
      'o.tif': {**ome('TCYX'), 'compression': 'zlib'},
      'm.tif': {
        'metadata': None,
        'photometric': 'minisblack',
        'tile': (16, 16),
      },
    }
    several = name in ('s.tif', 'm.tif', 'o.tif')
    write(path, STACK if several else STACK[0, 0], **options[name])
  content = path.read_bytes()
  path.write_bytes(content[: int(share * len(content))])
  assert 'save or copy it again' in refused(path)


def test_damage_is_found_where_it_is_read(tmp_path):
  path = write(
    tmp_path / 'a.tif', STACK[0, 0], compression='zlib', tile=(16, 16)
  )
  with tifffile.TiffFile(path) as file:
    offset = file.pages[0].dataoffsets[-1]
  content = bytearray(path.read_bytes())
  content[offset : offset + 40] = bytes(40)
  path.write_bytes(content)
  with open_image(path) as source:
    np.testing.assert_array_equal(source[:30, :30], STACK[0, 0, :30, :30])
    with pytest.raises(ImageFileError, match=r'a\.tif: cannot be read'):
      source[30:, 30:]


def test_files_that_are_not_images(tmp_path):
  (tmp_path / 'empty.tif').touch()
  (tmp_path / 'text.tif').write_text('not an image')
  (tmp_path / 'text.png').write_text('not an image')
  (tmp_path / 'folder.zarr').mkdir()
  for name, fault in (
    ('none.tif', 'no such file'),
    ('empty.tif', 'the file is empty'),
    ('text.tif', 'cannot be read'),
    ('text.png', 'cannot be read'),
    ('folder.zarr', 'is a folder, and not one of OME-Zarr'),
  ):
    assert fault in refused(tmp_path / name)


def test_an_image_of_no_pixels_is_refused(tmp_path):
  with pytest.warns(UserWarning, match='zero-size'):
    path = write(tmp_path / 'a.tif', np.zeros((0, 5), np.uint8))
  assert 'no pixels' in refused(path)


def test_a_header_that_claims_too_much_is_refused(tmp_path):
  claims = b'\x00\x02\x00\x00\x00\x02\x00\x00\x08\x00\x00\x00\x00'
  (tmp_path / 'a.png').write_bytes(png(claims, b''))
  tracemalloc.start()
  message = refused(tmp_path / 'a.png')
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert 'claims shape (131072, 131072)' in message
  assert '--max-pixels' in message
  assert peak < 2**24


def test_the_limit_on_pixels_is_the_callers(tmp_path, monkeypatch):
  # As if the file were beyond Pillow's own limit.
  monkeypatch.setattr(Image, 'MAX_IMAGE_PIXELS', 1000)
  iio.imwrite(tmp_path / 'a.png', STACK[0, 0])
  one_strip = {'compression': 'zlib', 'rowsperstrip': 40}
  write(tmp_path / 'b.tif', STACK[0, 0], **one_strip)
  write(tmp_path / 'c.tif', STACK[0, 0], tile=(16, 16))
  for name in ('a.png', 'b.tif'):
    assert '2399 are allowed' in refused(tmp_path / name, max_pixels=2399)
    with open_image(tmp_path / name, max_pixels=2400) as source:
      np.testing.assert_array_equal(source.read(), STACK[0, 0])
  with open_image(tmp_path / 'c.tif', max_pixels=2399) as source:
    np.testing.assert_array_equal(source[8:24, 3:], STACK[0, 0, 8:24, 3:])
    with pytest.raises(ImageFileError, match='2399 are allowed'):
      source.read()
  assert Image.MAX_IMAGE_PIXELS == 1000


def test_an_incomplete_set_of_files_is_refused(tmp_path):
  path = tmp_path / 'a.ome.tif'
  write(path, STACK[0], **ome('ZYX'), compression='zlib')
  content = path.read_bytes()
  assert content.count(b'SizeZ="3"') == 1
  path.write_bytes(content.replace(b'SizeZ="3"', b'SizeZ="5"'))
  assert 'some of its 5 planes are not there' in refused(path)


def test_a_file_is_closed(tmp_path):
  path = write(tmp_path / 'a.tif', STACK[0, 0], compression='zlib')
  with open_image(str(path)) as source:
    assert source.path == path
    assert isinstance(source.path, pathlib.Path)
  path.unlink()
  with pytest.raises(ImageFileError, match='cannot be read'):
    source[:, :]
