"""OME-Zarr images, as other programs write them."""

import json
import tracemalloc

import numpy as np
import pytest
import zarr

from cellseg_jax.images import kept
from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.source import open_image

STACK = np.random.default_rng(0).integers(0, 60_000, (2, 3, 40, 60), np.uint16)


def multiscales(axes='czyx', unit='micrometer', scales=((1, 2, 0.5, 0.65),)):
  """The metadata of an image, in words of the specification."""
  kinds = {'c': 'channel', 't': 'time'}
  return {
    'axes': [
      {'name': a, 'type': 'space', 'unit': unit}
      if a in 'zyx'
      else {'name': a, 'type': kinds[a]}
      for a in axes
    ],
    'datasets': [
      {
        'path': str(level),
        'coordinateTransformations': [{'type': 'scale', 'scale': list(scale)}],
      }
      for level, scale in enumerate(scales)
    ],
  }


def write(path, version, array=STACK, image=None, omero=None, **more):
  image = image or multiscales()
  omero = omero or {}
  if version == '0.4':
    group = zarr.create_group(path, zarr_format=2)
    image = {**image, 'version': version}
    group.attrs.update({'multiscales': [image], 'omero': omero, **more})
  else:
    group = zarr.create_group(path, zarr_format=3)
    ome = {'version': version, 'multiscales': [image], 'omero': omero, **more}
    group.attrs['ome'] = ome
  names = {} if version == '0.4' else {'dimension_names': list('czyx')}
  chunks = (1, 1, 16, 16)
  group.create_array('0', data=array, chunks=chunks, **names)
  return path


@pytest.mark.parametrize('version', ['0.4', '0.5'])
def test_an_image_is_read_by_blocks(tmp_path, version):
  levels = ((1, 2, 0.5, 0.65), (1, 2, 1, 1.3))
  omero = {'channels': [{'label': 'DAPI'}, {'label': 'GFP', 'color': 'x'}]}
  path = write(
    tmp_path / 'a.ome.zarr',
    version,
    image=multiscales(scales=levels),
    omero=omero,
  )
  zarr.open_group(path).create_array('1', data=STACK[..., ::2, ::2])
  with open_image(path) as source:
    assert (source.axes, source.shape) == ('CZYX', STACK.shape)
    assert source.dtype == np.uint16
    assert source.pixel_size == (0.5, 0.65)
    assert source.channel_names == ('DAPI', 'GFP')
    found = source[1, :, 10:30, 5:50]
    np.testing.assert_array_equal(found, STACK[1, :, 10:30, 5:50])


@pytest.mark.parametrize(
  ('unit', 'overall', 'pixel_size'),
  [
    ('nanometer', None, (0.0005, 0.00065)),
    ('micrometer', [1, 1, 2, 4], (1.0, 2.6)),
    (None, None, None),
    ('parsec', None, None),
  ],
)
def test_pixel_size_is_of_the_scale_and_unit(
  tmp_path, unit, overall, pixel_size
):
  image = multiscales(unit=unit)
  if overall:
    image['coordinateTransformations'] = [{'type': 'scale', 'scale': overall}]
  with open_image(write(tmp_path / 'a.zarr', '0.5', image=image)) as source:
    assert source.pixel_size == pixel_size


def test_only_chunks_that_are_needed_are_read(tmp_path, monkeypatch):
  monkeypatch.setattr(kept, '_FEWEST_VALUES', 1)  # As if they were large.
  path = write(tmp_path / 'a.zarr', '0.5')
  (path / '0/c/1/2/2/3').write_bytes(b'damaged')
  with open_image(path) as source:
    np.testing.assert_array_equal(source[1, 2, :32], STACK[1, 2, :32])
    with pytest.raises(ImageFileError, match=r'a\.zarr: cannot be read'):
      source[1, 2, 32:]


def test_a_block_of_a_huge_image_costs_a_block(tmp_path):
  path = tmp_path / 'a.zarr'
  group = zarr.create_group(path, zarr_format=3)
  image = multiscales('yx', scales=[(1, 1)])
  group.attrs['ome'] = {'version': '0.5', 'multiscales': [image]}
  size = 200_000
  array = group.create_array(
    '0', shape=(size, size), chunks=(256, 256), dtype=np.uint16
  )
  array[size - 300 :, size - 300 :] = 7
  # It is almost empty, and so looks like one made to harm.
  with open_image(path, max_pixels=size**2) as source:
    tracemalloc.start()
    block = source[size - 310 :, size - 310 :]
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
  with (
    pytest.raises(ImageFileError, match='1% of its bytes'),
    open_image(path),
  ):
    pass
  assert block.sum() == 7 * 300**2
  assert peak < 2**23


def test_an_array_without_metadata_needs_axes(tmp_path):
  path = tmp_path / 'a.zarr'
  zarr.create_array(path, data=STACK)
  with open_image(path, 'TZYX') as source:
    np.testing.assert_array_equal(source[1, 2], STACK[1, 2])
  with pytest.raises(ImageFileError, match='--axes TCYX'):
    open_image(path).__enter__()


def test_one_of_several_images_in_a_folder(tmp_path):
  path = tmp_path / 'a.zarr'
  root = zarr.create_group(path, zarr_format=3)
  root.attrs['ome'] = {'version': '0.5', 'bioformats2raw.layout': 3}
  root.create_group('OME')
  for name in ('0', '1'):
    write(path / name, '0.5', STACK + int(name))
  with open_image(path, scene='1') as source:
    np.testing.assert_array_equal(source[1, 0], STACK[1, 0] + 1)
  with pytest.raises(ImageFileError, match=r'holds 2 images \(0 0, 1 1\)'):
    open_image(path).__enter__()


def test_of_a_plate_an_image_is_offered(tmp_path):
  path = tmp_path / 'a.zarr'
  root = zarr.create_group(path, zarr_format=2)
  root.attrs['plate'] = {'version': '0.4'}
  root.create_group('B').create_group('3')
  write(path / 'B' / '3' / '0', '0.4')
  with pytest.raises(ImageFileError, match=r'such as .*a\.zarr/B/3/0'):
    open_image(path).__enter__()
  with open_image(path / 'B' / '3' / '0') as source:
    assert source.shape == STACK.shape


@pytest.mark.parametrize(
  ('spoil', 'message'),
  [
    (lambda ome: ome.update(version='0.9'), 'is OME-Zarr 0.9; those read are'),
    (lambda ome: ome['multiscales'][0].pop('axes'), 'cannot be read'),
    (lambda ome: ome['multiscales'].clear(), 'has no OME-Zarr image'),
    (lambda ome: ome.pop('multiscales'), 'has no OME-Zarr image of its own'),
    (
      lambda ome: ome['multiscales'][0]['datasets'][0].update(path='7'),
      'cannot be read',
    ),
    (
      lambda ome: ome['multiscales'][0]['axes'][0].update(name='w'),
      'has axes WZYX',
    ),
  ],
)
def test_faulty_metadata_are_refused(tmp_path, spoil, message):
  path = write(tmp_path / 'a.zarr', '0.5')
  metadata = json.loads((path / 'zarr.json').read_text())
  spoil(metadata['attributes']['ome'])
  (path / 'zarr.json').write_text(json.dumps(metadata))
  with pytest.raises(ImageFileError) as error:
    open_image(path).__enter__()
  assert message in str(error.value)
  assert '\n' not in str(error.value)


def test_broken_json_is_refused(tmp_path):
  path = write(tmp_path / 'a.zarr', '0.5')
  (path / 'zarr.json').write_text('{')
  with pytest.raises(ImageFileError, match=r'a\.zarr: cannot be read'):
    open_image(path).__enter__()
