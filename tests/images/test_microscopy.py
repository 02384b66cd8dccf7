"""Microscopes' own formats, through bioio."""

import sys
import types

import dask.array as da
import numpy as np
import pytest

from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.source import open_image

STACK = np.random.default_rng(0).integers(0, 60_000, (2, 3, 40, 60), np.uint16)


def test_without_bioio_the_error_says_what_to_install(tmp_path, monkeypatch):
  monkeypatch.setitem(sys.modules, 'bioio', None)
  for name in ('a.czi', 'notes.txt', 'noname'):
    (tmp_path / name).write_text('something')
    with pytest.raises(ImageFileError) as error:
      open_image(tmp_path / name).__enter__()
    assert str(error.value).startswith(f'{tmp_path / name}: cannot read')
    assert 'pip install "cellseg_jax[microscopy]"' in str(error.value)


class Scenes:
  """What bioio would make of a file of two images."""

  scenes = ('left', 'right')
  dims = types.SimpleNamespace(order='TCZYX')
  physical_pixel_sizes = types.SimpleNamespace(Z=1.0, Y=0.5, X=0.65)
  channel_names = ('DAPI', 'GFP')

  def __init__(self, path):
    if path.read_text() != 'whole':
      raise RuntimeError('broken\nin two lines')

  def set_scene(self, index):
    self.dask_data = da.from_array(
      STACK[None] + index, chunks=(1, 1, 1, -1, -1)
    )


@pytest.fixture
def bioio(monkeypatch):
  module = types.ModuleType('bioio')
  module.BioImage = Scenes
  monkeypatch.setitem(sys.modules, 'bioio', module)


def test_one_image_of_a_file(tmp_path, bioio):
  path = tmp_path / 'a.lif'
  path.write_text('whole')
  for scene in ('right', '1'):
    with open_image(path, scene=scene) as source:
      assert (source.axes, source.shape) == ('TCZYX', (1, 2, 3, 40, 60))
      assert source.pixel_size == (0.5, 0.65)
      assert source.channel_names == ('DAPI', 'GFP')
      found = source[0, 1, :, 3:9, 4:50]
      np.testing.assert_array_equal(found, STACK[1, :, 3:9, 4:50] + 1)
  with pytest.raises(ImageFileError, match=r'holds 2 images \(0 left, 1 right'):
    open_image(path).__enter__()
  with pytest.raises(ImageFileError, match='2399 are allowed'):
    open_image(path, scene='0', max_pixels=2399).__enter__()


def test_a_file_that_bioio_cannot_read(tmp_path, bioio):
  (tmp_path / 'a.nd2').write_text('half')
  with pytest.raises(ImageFileError, match=r'nd2 \(broken in two lines\)'):
    open_image(tmp_path / 'a.nd2').__enter__()


def test_a_czi_file(tmp_path):
  pytest.importorskip('bioio_czi', reason='needs the extra [microscopy]')
  from pylibCZIrw import czi

  path = tmp_path / 'a.czi'
  with czi.create_czi(str(path)) as file:
    for channel in range(2):
      for z in range(3):
        plane = {'C': channel, 'Z': z, 'T': 0}
        file.write(data=STACK[channel, z][..., None], plane=plane)
    file.write_metadata(
      'a', channel_names={0: 'DAPI', 1: 'GFP'}, scale_x=0.65e-6, scale_y=0.5e-6
    )
  with open_image(path) as source:
    assert source.axes == 'TCZYX'
    assert source.pixel_size == (0.5, 0.65)
    assert source.channel_names == ('DAPI', 'GFP')
    np.testing.assert_array_equal(source[0, 1, :, 9:30], STACK[1, :, 9:30])
