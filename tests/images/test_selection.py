"""Channels, times, depths and colours of files, as frames."""

import imageio.v3 as iio
import numpy as np
import pytest
from skimage.color import rgb2gray
import tifffile

from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.selection import select, Selection, stack_axes
from cellseg_jax.images.source import open_image

# Times, depths, channels.
STACK = np.random.default_rng(0).integers(
  0, 60_000, (4, 3, 2, 40, 60), np.uint16
)
COLOURS = np.random.default_rng(1).integers(0, 255, (40, 60, 3), np.uint8)
BLOCK = (slice(5, 31), slice(7, 50))


@pytest.fixture
def stack(tmp_path):
  """A file of four times, three depths and two channels."""
  path = tmp_path / 'a.tif'
  channels = {'Name': ['DAPI', 'GFP']}
  size = {'PhysicalSizeX': 0.65, 'PhysicalSizeY': 0.5}
  metadata = {'axes': 'TZCYX', 'Channel': channels, **size}
  tifffile.imwrite(path, STACK, ome=True, metadata=metadata)
  return path


def frames_of(path, channels=1, axes=None, **options):
  """Suffix to pixels of every frame, read whole, and a block of each."""
  found = {}
  with open_image(path, axes) as source:
    for frame in select(source, Selection(**options), channels):
      pixels = np.asarray(frame)
      assert (pixels.shape, pixels.dtype) == (frame.shape, frame.dtype)
      assert pixels.ndim == len(frame.shape)
      np.testing.assert_array_equal(frame[BLOCK], pixels[BLOCK])
      found[frame.suffix] = pixels
  return found


def test_every_time_of_one_depth_and_channel(stack):
  found = frames_of(stack, channel='GFP', z='2')
  assert list(found) == ['_t000', '_t001', '_t002', '_t003']
  for time, frame in enumerate(found.values()):
    np.testing.assert_array_equal(frame, STACK[time, 2, 1])


def test_every_time_and_depth(stack):
  found = frames_of(stack, channel='0', z='all')
  assert list(found)[:4] == ['_t000_z00', '_t000_z01', '_t000_z02', '_t001_z00']
  assert len(found) == 12
  np.testing.assert_array_equal(found['_t003_z01'], STACK[3, 1, 0])


def test_the_maximum_over_depth_at_one_time(stack):
  found = frames_of(stack, channel='1', z='max', time=3)
  np.testing.assert_array_equal(found[''], STACK[3, :, 1].max(0))


def test_a_model_of_several_channels(stack):
  first = STACK[0, 0]
  found = frames_of(stack, channels=2, time=0, z='0')
  np.testing.assert_array_equal(found[''], np.moveaxis(first, 0, -1))
  found = frames_of(stack, channels=2, time=0, z='0', channel='GFP, DAPI')
  np.testing.assert_array_equal(found[''], np.moveaxis(first[::-1], 0, -1))
  found = frames_of(stack, channels=3, time=0, z='max', channel='1,0,1')
  highest = STACK[0].max(0)[[1, 0, 1]]
  np.testing.assert_array_equal(found[''], np.moveaxis(highest, 0, -1))


@pytest.mark.parametrize('axes', ['CYX', 'YXC', 'XYC'])
def test_axes_in_any_order(tmp_path, axes):
  array = STACK[0, 0, :, :, :]
  stored = array.transpose(['CYX'.index(axis) for axis in axes])
  tifffile.imwrite(tmp_path / 'a.tif', stored, photometric='minisblack')
  found = frames_of(tmp_path / 'a.tif', axes=axes, channel='1')
  np.testing.assert_array_equal(found[''], array[1])


def test_frames_know_where_they_are(stack):
  with open_image(stack) as source:
    frames = select(source, Selection(channel='0', z='all', time=2))
    assert [frame.time for frame in frames] == [2, 2, 2]
    assert [list(frame.depths) for frame in frames] == [[0], [1], [2]]
    assert frames[0].pixel_size == (0.5, 0.65)
    for options, axes in (
      ({'z': 'all', 'time': 2}, 'Z'),
      ({'z': 'max'}, 'T'),
      ({'z': '1', 'time': 0}, ''),
      ({'z': 'all'}, 'TZ'),
    ):
      selected = select(source, Selection(channel='0', **options))
      assert stack_axes(selected) == axes


def test_a_plain_image_needs_no_choice(tmp_path):
  tifffile.imwrite(tmp_path / 'a.tif', STACK[0, 0, 0])
  for options in ({}, {'channel': '0', 'time': 0, 'z': '0', 'rgb': 'mean'}):
    found = frames_of(tmp_path / 'a.tif', **options)
    np.testing.assert_array_equal(found[''], STACK[0, 0, 0])


@pytest.mark.parametrize('alpha', [False, True])
def test_colours_become_grey(tmp_path, alpha):
  pixels = np.dstack([COLOURS, COLOURS[..., :1]]) if alpha else COLOURS
  path = tmp_path / 'a.png'
  iio.imwrite(path, pixels)
  for i, colour in enumerate(('red', 'green', 'blue')):
    found = frames_of(path, rgb=colour)['']
    np.testing.assert_array_equal(found, COLOURS[..., i])
  mean = frames_of(path, rgb='mean')['']
  np.testing.assert_allclose(mean, COLOURS.mean(-1), rtol=1e-6)
  luminance = frames_of(path, rgb='luminance')['']
  assert luminance.dtype == np.float32
  np.testing.assert_allclose(luminance, 255 * rgb2gray(COLOURS), rtol=1e-5)


def test_colours_of_a_stack_become_grey(tmp_path):
  path = tmp_path / 'a.tif'
  array = np.stack([COLOURS, COLOURS[::-1]])
  tifffile.imwrite(path, array, photometric='rgb', metadata={'axes': 'ZYXS'})
  found = frames_of(path, z='max', rgb='green')['']
  np.testing.assert_array_equal(found, array[..., 1].max(0))


def test_colours_are_the_channels_of_a_model_of_as_many(tmp_path):
  iio.imwrite(tmp_path / 'a.png', COLOURS)
  found = frames_of(tmp_path / 'a.png', channels=3)['']
  np.testing.assert_array_equal(found, COLOURS)
  tifffile.imwrite(
    tmp_path / 'b.tif', np.moveaxis(COLOURS, -1, 0), photometric='rgb'
  )
  found = frames_of(tmp_path / 'b.tif', channels=3)['']
  np.testing.assert_array_equal(found, COLOURS)


@pytest.mark.parametrize(
  ('channels', 'options', 'message'),
  [
    (
      1,
      {'z': '0'},
      r'has 2 channels \(0 DAPI, 1 GFP\), the model takes 1 chan',
    ),
    (3, {'z': '0'}, r'has 2 channels .*takes 3 channels; choose \(--channel\)'),
    (1, {'channel': 'RFP'}, r"\(0 DAPI, 1 GFP\), none of them 'RFP'"),
    (1, {'channel': '2'}, "none of them '2'"),
    (1, {'channel': '-1'}, "none of them '-1'"),
    (1, {'channel': '0,1'}, 'takes 1 channel, and --channel 0,1 names 2'),
    (2, {'channel': '0'}, 'takes 2 channels, and --channel 0 names 1'),
    (1, {'channel': '0'}, r'has 3 planes .*--z 0 to 2.*--z max.*--z all'),
    (1, {'channel': '0', 'z': '3'}, 'has planes 0 to 2 in depth, not 3'),
    (1, {'channel': '0', 'z': '0', 'time': 4}, 'has times 0 to 3, not 4'),
  ],
)
def test_what_the_file_has_not(stack, channels, options, message):
  with (
    open_image(stack) as source,
    pytest.raises(ImageFileError, match=rf'a\.tif: .*{message}'),
  ):
    select(source, Selection(**options), channels)


@pytest.mark.parametrize(
  ('samples', 'channels', 'options', 'message'),
  [
    (3, 1, {}, r'3 samples a pixel, .*--rgb luminance, mean, .*--axes YXC\)'),
    (3, 2, {}, 'takes 2 channels; say how these colours become grey'),
    (3, 1, {'channel': '0'}, 'say how these colours become grey'),
    (3, 3, {'rgb': 'mean'}, r'has 1 channel \(0\), the model takes 3'),
    (2, 1, {'rgb': 'red'}, 'which are not red, green and blue'),
  ],
)
def test_colours_are_refused(tmp_path, samples, channels, options, message):
  path = tmp_path / 'a.png'
  iio.imwrite(path, np.dstack([COLOURS, COLOURS])[..., :samples])
  with (
    open_image(path) as source,
    pytest.raises(ImageFileError, match=rf'a\.png: .*{message}'),
  ):
    select(source, Selection(**options), channels)


@pytest.mark.parametrize(
  ('options', 'message'),
  [
    ({'z': 'maximum'}, "z must be an index, 'max' or 'all', found 'maximum'"),
    ({'z': '-1'}, 'z must be'),
    ({'rgb': 'grey'}, "rgb must be one of luminance, .*found 'grey'"),
    ({'time': -1}, 'time must be an index from 0, found -1'),
  ],
)
def test_selections_that_cannot_be(options, message):
  with pytest.raises(ValueError, match=message):
    Selection(**options)


@pytest.mark.parametrize('dtype', [bool, np.complex64])
def test_pixels_that_are_no_intensities(tmp_path, dtype):
  tifffile.imwrite(tmp_path / 'a.tif', np.zeros((8, 9), dtype))
  with (
    open_image(tmp_path / 'a.tif') as source,
    pytest.raises(ImageFileError, match='save them as integers or floats'),
  ):
    select(source, Selection())


@pytest.mark.parametrize('wrong', [np.nan, np.inf, -np.inf])
def test_pixels_that_are_not_finite_are_refused_where_read(tmp_path, wrong):
  pixels = np.zeros((3, 40, 60), np.float32)
  pixels[1, 30, 7] = wrong
  path = tmp_path / 'a.tif'
  tifffile.imwrite(path, pixels, imagej=True, metadata={'axes': 'ZYX'})
  with open_image(path) as source:
    first, second, _ = select(source, Selection(z='all'))
    assert not first[:, :].any()
    assert not second[:30, :].any()
    for rows in (slice(20, 40), slice(20, None, 2)):
      with pytest.raises(
        ImageFileError, match=r'a\.tif: .*NaN or inf.* row 30, column 7;'
      ):
        second[rows, 5:]


def test_the_maximum_hides_no_nan(tmp_path):
  pixels = np.zeros((3, 40, 60), np.float32)
  pixels[0, 3, 4] = np.nan
  path = tmp_path / 'a.tif'
  tifffile.imwrite(path, pixels, imagej=True, metadata={'axes': 'ZYX'})
  with open_image(path) as source:
    (frame,) = select(source, Selection(z='max'))
    with pytest.raises(ImageFileError, match='row 3, column 4'):
      frame[:, :]


def test_a_frame_is_read_whole_within_the_limit_only(tmp_path):
  tifffile.imwrite(tmp_path / 'a.tif', STACK[0, 0, 0])
  with open_image(tmp_path / 'a.tif', max_pixels=2399) as source:
    (frame,) = select(source, Selection())
    assert frame[:10, :10].shape == (10, 10)
    with pytest.raises(ImageFileError, match='2399 are allowed'):
      np.asarray(frame)
