"""Images that claim too much, become too much, or would run code."""

import contextlib
import os
import tracemalloc
from types import SimpleNamespace

import hostile
import numcodecs
import numpy as np
import pytest
import tifffile
import zarr

from cellseg_jax.config import ConfigError, DataConfig
from cellseg_jax.datasets import prepared
from cellseg_jax.datasets.folder import LabelledFolder, read_pair
from cellseg_jax.datasets.public import Bbbc038, SBsst265
from cellseg_jax.images import formats, tiff_checks
from cellseg_jax.images.errors import check_share, ImageFileError, MAX_PIXELS
from cellseg_jax.images.expansion import check_expansion, ExpansionError
from cellseg_jax.images.frames import Frame
from cellseg_jax.images.selection import select, Selection
from cellseg_jax.images.source import open_image
from cellseg_jax.images.zarr_codecs import guarded


def refused(path, read=lambda source: source[:8, :8], **options):
  """The message that opening or reading gives, in little memory."""
  tracemalloc.start()
  try:
    with (
      pytest.raises(ImageFileError) as error,
      open_image(path, **options) as source,
    ):
      read(source)
    _, peak = tracemalloc.get_traced_memory()
  finally:
    tracemalloc.stop()
  assert peak < 2**24
  assert str(error.value).startswith(str(path))
  return str(error.value)


def bombs(folder):
  """Small files that claim 10^10 pixels."""
  (folder / 'a.png').write_bytes(hostile.png(*hostile.HUGE))
  yield folder / 'a.png'
  yield hostile.tiff(folder / 'strip.tif', claims=hostile.HUGE)
  yield hostile.tiff(
    folder / 'tiles.tif', claims=hostile.HUGE, tile=(16, 16), shape=(32, 32)
  )
  for version in (2, 3):
    path = folder / f'v{version}.zarr'
    zarr.create_array(
      path,
      shape=hostile.HUGE,
      chunks=(512, 512),
      dtype='uint8',
      zarr_format=version,
    )
    yield path


def test_what_claims_ten_to_the_ten_pixels_is_refused_by_its_header(tmp_path):
  paths = list(bombs(tmp_path))
  assert len(paths) == 5
  for path in paths:
    message = refused(path, axes='YX')
    assert 'claims shape (100000, 100000)' in message
    assert '1073741824' in message
    assert '--max-pixels' in message
    assert '--config.data.max_pixels' in message


def test_the_limit_can_be_raised(tmp_path):
  for path in bombs(tmp_path):
    with open_image(path, 'YX', max_pixels=10**10) as source:
      assert source.shape == hostile.HUGE


def test_label_images_and_training_images_have_the_limit(tmp_path):
  hostile.tiff(tmp_path / 'a.tif', (40, 50))
  (tmp_path / 'bomb.png').write_bytes(hostile.png(*hostile.HUGE))
  for read in (formats.read_image, formats.read_labels):
    assert read(tmp_path / 'a.tif', max_pixels=2000).shape == (40, 50)
    with pytest.raises(ImageFileError, match='1999 are allowed'):
      read(tmp_path / 'a.tif', max_pixels=1999)
    with pytest.raises(ImageFileError, match=r'bomb\.png: its header claims'):
      read(tmp_path / 'bomb.png')
  data = DataConfig(path=str(tmp_path / 'set'), max_pixels=1999)
  for part in ('images', 'labels'):
    (tmp_path / 'set' / part).mkdir(parents=True)
    hostile.tiff(tmp_path / 'set' / part / 'a.tif', (40, 50))
  (pair,) = LabelledFolder.listing(data).splits['train']
  with pytest.raises(ImageFileError, match='1999 are allowed'):
    pair.read()
  assert DataConfig().max_pixels == MAX_PIXELS
  for pair in (('bomb.png', 'a.tif'), ('a.tif', 'bomb.png')):
    with pytest.raises(ImageFileError, match=r'bomb\.png: its header claims'):
      read_pair(*(tmp_path / name for name in pair), MAX_PIXELS)


def test_slides_are_read_as_before(tmp_path):
  path = tmp_path / 'slide.zarr'
  zarr.create_array(
    path, shape=(20_000, 20_000), chunks=(512, 512), dtype='uint16'
  )
  with open_image(path, 'YX') as source:
    assert source[19_990:, 19_990:].shape == (10, 10)
  strip = hostile.tiff(tmp_path / 'a.tif', claims=(20_000, 20_000))
  with open_image(strip) as source:
    assert source.shape == (20_000, 20_000)
  # 200,000 x 200,000 in RGB, compressed 40 times.
  check_share(path, (200_000, 200_000, 3), 1, 3 * 10**9, MAX_PIXELS)


def test_bytes_of_a_folder_count(tmp_path):
  path = tmp_path / 'a.zarr'
  array = zarr.create_array(
    path, shape=(1024, 1024), chunks=(128, 128), dtype='u1', compressors=None
  )
  most = {'max_pixels': 2**14}
  assert 'must have 1% of its bytes' in refused(path, axes='YX', **most)
  array[:] = 1
  with open_image(path, 'YX', **most) as source:
    assert source[1000, 1000] == 1


@pytest.fixture(params=['with imagecodecs', 'without'])
def imagecodecs(request, monkeypatch):
  """As if it were there, and as if not."""
  if request.param == 'without':
    monkeypatch.setattr(tiff_checks, '_keeps_to_size', lambda page: False)
  else:
    pytest.importorskip('imagecodecs')
  return request.param


@pytest.mark.parametrize('kind', ['zlib', 'lzma', 'zstd'])
def test_a_strip_that_becomes_far_more_is_not_decoded(
  tmp_path, kind, imagecodecs
):
  path = hostile.tiff(tmp_path / 'a.tif', data=hostile.flooded(kind))
  codes = {'zlib': 8, 'lzma': 34925, 'zstd': 50000}
  with tifffile.TiffFile(path, mode='r+') as file:
    file.pages[0].tags['Compression'].overwrite(codes[kind])
  if codes[kind] not in tifffile.TIFF.DECOMPRESSORS:
    pytest.skip(f'{kind} is not there')
  if imagecodecs == 'without':
    assert 'and 256 are expected' in refused(path)
  elif kind == 'lzma':  # Only its beginning is.
    tracemalloc.start()
    with open_image(path) as source:
      assert not source[:, :].any()
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2**20
  else:
    assert 'cannot be read' in refused(path)


CODECS = ('zlib', 'gzip', 'bz2', 'lzma', 'zstd', 'blosc', 'lz4')


@pytest.mark.parametrize('kind', CODECS)
def test_a_chunk_that_becomes_far_more_is_not_decoded(tmp_path, kind):
  path = hostile.zarr_v2(
    tmp_path / 'a.zarr', hostile.flooded(kind), compressor={'id': kind}
  )
  assert 'and 64 are expected' in refused(path, axes='YX')


@pytest.mark.parametrize('sharded', [False, True])
@pytest.mark.parametrize('kind', ['gzip', 'zstd', 'blosc'])
def test_nor_in_version_3_nor_in_shards(tmp_path, kind, sharded):
  path = tmp_path / 'a.zarr'
  hostile.zarr_v3(path, kind, hostile.flooded(kind), sharded)
  assert 'and 64 are expected' in refused(path, axes='YX')


@pytest.mark.parametrize('kind', CODECS)
def test_what_becomes_as_much_as_expected_is(kind):
  size = 2**22
  data = numcodecs.get_codec({'id': kind}).encode(bytes(size))
  check_expansion(kind, bytes(data), size)
  with pytest.raises(ExpansionError):
    check_expansion(kind, bytes(data), size // 16)


def test_zstd_that_does_not_state_its_size_is_bounded_by_its_blocks():
  # A frame of blocks of 100,000 equal bytes each, RFC 8878, 3.1.1.
  block = 100_000 << 3 | 1 << 1
  blocks = (block.to_bytes(3, 'little') + b'x') * 99
  last = (block | 1).to_bytes(3, 'little') + b'x'
  frame = b'\x28\xb5\x2f\xfd' + b'\x00\x58' + blocks + last
  assert len(numcodecs.get_codec({'id': 'zstd'}).decode(frame)) == 10**7
  check_expansion('zstd', frame, 10**7)
  with pytest.raises(ExpansionError):
    check_expansion('zstd', frame, 10**6)


def test_a_jpeg_in_a_tile_is_of_the_tiles_size():
  # ITU-T T.81, B.2.2: 8 bits, 60000 rows and columns, 3 samples.
  frame = b'\xff\xc0\x00\x11\x08' + b'\xea\x60\xea\x60' + b'\x03' + bytes(9)
  start = b'\xff\xd8' + b'\xff\xe0\x00\x04ab'
  with pytest.raises(ExpansionError):
    check_expansion('jpeg', start + frame, 256 * 256 * 3)
  check_expansion('jpeg', start + frame, 60_000 * 60_000 * 3)


@pytest.mark.parametrize('place', ['compressor', 'filters'])
def test_no_chunk_is_unpickled(tmp_path, monkeypatch, place):
  # As older versions do.
  name = 'ALLOW_UNSAFE_PICKLE_DECODE'
  monkeypatch.setattr(numcodecs.pickles, name, True, raising=False)
  codec = {'id': 'pickle', 'protocol': 5}
  path = hostile.zarr_v2(
    tmp_path / 'a.zarr',
    hostile.pickled(tmp_path / 'ran'),
    **{place: codec if place == 'compressor' else [codec]},
  )
  refused(path, axes='YX')
  assert not (tmp_path / 'ran').exists()
  # As read by a library that leaves the choice of codecs to the file.
  codec = numcodecs.get_codec(codec)
  with contextlib.suppress(TypeError, AttributeError):
    codec.decode((path / '0.0').read_bytes())
  assert (tmp_path / 'ran').exists()


def test_only_codecs_of_numbers_and_bytes_are_let_in(tmp_path):
  array = zarr.open_array(hostile.zarr_v2(tmp_path / 'a.zarr'), mode='r')
  for name in ('pickle', 'json2', 'msgpack2', 'vlen-utf8', 'categorize'):
    codec = type('Codec', (), {'codec_id': name})()
    for filters, compressor in (([codec], None), (None, codec)):
      metadata = SimpleNamespace(
        zarr_format=2, filters=filters, compressor=compressor, chunks=(8, 8)
      )
      one = SimpleNamespace(metadata=metadata, dtype=array.dtype)
      with pytest.raises(ImageFileError, match=f'is compressed with {name}'):
        guarded(tmp_path, one)


@pytest.mark.parametrize('dtype', ['|O', '<U250000000', '|V1000', '<M8[s]'])
def test_only_numbers_are_pixels(tmp_path, dtype):
  path = hostile.zarr_v2(
    tmp_path / 'a.zarr',
    dtype=dtype,
    fill_value=None,
    filters=[{'id': 'json2'}] if dtype == '|O' else None,
  )
  refused(path, axes='YX')


def test_shards_of_endless_chunks_are_refused(tmp_path):
  path = tmp_path / 'a.zarr'
  zarr.create_array(
    path, shape=(4096, 4096), chunks=(1, 1), shards=(4096, 4096), dtype='u1'
  )
  assert 'of more than' in refused(path, axes='YX')


def test_planes_of_a_pixel_each_are_not_taken_by_the_billion(tmp_path):
  path = tmp_path / 'a.zarr'
  zarr.create_array(
    path, shape=(2**15, 2**14, 1, 1), chunks=(2**15, 2**14, 1, 1), dtype='u1'
  )
  for z in ('all', 'max'):
    said = refused(
      path, lambda source, z=z: select(source, Selection(z=z)), axes='TZYX'
    )
    assert '--time' in said
  with open_image(path, 'TZYX') as source:
    (frame,) = select(source, Selection(z='3', time=2))
    assert isinstance(frame, Frame)
  with open_image(path, 'CTYX') as source:
    with pytest.raises(ImageFileError) as error:
      select(source, Selection())
    assert len(str(error.value)) < 1000


def test_entities_in_xml_are_refused_unparsed(tmp_path):
  path = tmp_path / 'a.ome.tif'
  tifffile.imwrite(
    path, np.zeros((16, 16), np.uint8), description=hostile.ENTITIES
  )
  assert 'declares entities' in refused(path)


def test_a_set_of_files_lies_in_one_folder(tmp_path):
  secret = tmp_path / 'secret.tif'
  tifffile.imwrite(secret, np.ones((16, 16), np.uint8))
  folder = tmp_path / 'sent'
  folder.mkdir()
  os.mkfifo(folder / 'pipe.tif')
  path = folder / 'a.ome.tif'
  for name, fault in (
    ('../secret.tif', 'one folder'),
    (str(secret), 'one folder'),
    ('pipe.tif', 'is no file'),
  ):
    tifffile.imwrite(
      path,
      np.zeros((16, 16), np.uint8),
      description=hostile.ome('a.ome.tif', name),
    )
    assert fault in refused(path)


def test_a_zarr_that_names_arrays_elsewhere_is_refused(tmp_path):
  zarr.create_array(tmp_path / 'other', data=np.ones((8, 8), np.uint8))
  path = tmp_path / 'sent' / 'a.zarr'
  for name in ('../../other', str(tmp_path / 'other')):
    group = zarr.create_group(path, overwrite=True)
    axes = [{'name': a, 'type': 'space'} for a in 'yx']
    scale = [{'type': 'scale', 'scale': [1, 1]}]
    dataset = {'path': name, 'coordinateTransformations': scale}
    image = {'axes': axes, 'datasets': [dataset]}
    group.attrs['ome'] = {'version': '0.5', 'multiscales': [image]}
    refused(path)


def test_folders_that_link_to_themselves_end(tmp_path):
  path = tmp_path / 'a.zarr'
  zarr.create_group(path)
  for name in 'abcd':
    (path / name).symlink_to('.')
  assert 'has no OME-Zarr image' in refused(path)


def test_a_pipe_is_no_image(tmp_path):
  os.mkfifo(tmp_path / 'a.tif')
  assert 'no such file' in refused(tmp_path / 'a.tif')


def test_pages_in_a_circle_are_refused(tmp_path):
  # Found by the fuzzer: tifffile went round for ever.
  path = tmp_path / 'a.tif'
  with tifffile.TiffWriter(path) as writer:
    for _ in range(3):
      writer.write(np.zeros((16, 16), np.uint8), contiguous=False)
  with tifffile.TiffFile(path) as file:
    first, *_, last = [page.offset for page in file.pages]
    tags = len(file.pages[2].tags)
  content = bytearray(path.read_bytes())
  place = last + 2 + 12 * tags
  assert content[place : place + 4] == bytes(4)
  content[place : place + 4] = first.to_bytes(4, 'little')
  path.write_bytes(content)
  assert 'followed by an earlier one' in refused(path)


def test_pipes_in_a_data_set_are_not_waited_for(tmp_path):
  for folder in ('rawimages', 'groundtruth'):
    (tmp_path / folder).mkdir()
    os.mkfifo(tmp_path / folder / 'a.tif')
  (tmp_path / 'image_description.csv').write_text(
    'Image_Name;Train-/Testset split\na;train\n'
  )
  data = DataConfig(path=str(tmp_path))
  with pytest.raises(ConfigError, match=r'there is no .*a\.tif'):
    SBsst265.listing(data)
  folder = tmp_path / 'stage1_train' / 'a'
  for part in ('images', 'masks'):
    (folder / part).mkdir(parents=True)
  (folder / 'images' / 'a.png').write_bytes(hostile.png(2, 2))
  os.mkfifo(folder / 'masks' / 'b.png')
  listing = Bbbc038.listing(data)
  (pair,) = listing.splits['train']
  pipe = folder / 'masks' / 'b.png'
  assert prepared._contents(listing)[pipe] == b'absent'
  with pytest.raises(ImageFileError):
    pair.read()
