"""Label files are read back by libraries that others wrote."""

import tracemalloc

import numpy as np
from ome_zarr.io import parse_url
from ome_zarr.reader import Label, Reader
import ome_zarr_models
import pytest
import skimage.io
import tifffile
import zarr

from cellseg_jax.images import label_files
from cellseg_jax.images.label_files import write_labels, write_zarr_labels
from cellseg_jax.images.source import open_image

LABELS = np.random.default_rng(0).integers(0, 70_000, (3, 2, 40, 60))


@pytest.fixture(params=['strips', 'tiles'])
def layout(request, monkeypatch):
  """Small images written as small ones and as large ones."""
  if request.param == 'tiles':
    monkeypatch.setattr(label_files, '_LARGEST_UNTILED', 100)
    monkeypatch.setattr(label_files, 'BLOCK', 32)
  return request.param


@pytest.mark.parametrize('axes', ['YX', 'TYX', 'ZYX', 'TZYX'])
@pytest.mark.parametrize(
  ('highest', 'dtype'), [(65_535, np.uint16), (65_536, np.uint32)]
)
def test_tiff(tmp_path, layout, axes, highest, dtype):
  labels = np.minimum(LABELS, highest)[(0,) * (4 - len(axes))]
  labels[..., 0, 0] = highest
  path = tmp_path / 'a.tif'
  write_labels(path, labels, axes=axes, pixel_size=(0.5, 0.65))
  with tifffile.TiffFile(path) as file:
    (series,) = file.series
    assert (series.axes, series.dtype) == (axes, dtype)
    assert file.pages[0].is_tiled == (layout == 'tiles')
    assert file.pages[0].compression == tifffile.COMPRESSION.ADOBE_DEFLATE
    ome = tifffile.xml2dict(file.ome_metadata)['OME']['Image']['Pixels']
    assert (ome['PhysicalSizeY'], ome['PhysicalSizeX']) == (0.5, 0.65)
    assert ome['PhysicalSizeYUnit'] == ome['PhysicalSizeXUnit'] == 'µm'
    # The same, in pixels a cm, for readers of plain TIFF.
    resolution = file.pages[0].get_resolution('MICROMETER')
    np.testing.assert_allclose(resolution, (1 / 0.65, 1 / 0.5), rtol=1e-6)
    np.testing.assert_array_equal(series.asarray(), labels)
  np.testing.assert_array_equal(skimage.io.imread(path), labels)
  with open_image(path) as source:
    assert (source.axes, source.pixel_size) == (axes, (0.5, 0.65))


def test_tiff_without_pixel_size(tmp_path):
  write_labels(tmp_path / 'a.tif', LABELS[0, 0])
  with tifffile.TiffFile(tmp_path / 'a.tif') as file:
    assert 'PhysicalSize' not in file.ome_metadata
    assert file.pages[0].resolution == (1, 1)
    assert file.pages[0].resolutionunit == tifffile.RESUNIT.NONE


def test_equal_labels_make_equal_files(tmp_path):
  for folder in ('a', 'b'):
    (tmp_path / folder).mkdir()
    write_labels(tmp_path / folder / 'x.tif', LABELS[0, 0], pixel_size=(1, 1))
  first, second = (tmp_path / f / 'x.tif' for f in ('a', 'b'))
  assert first.read_bytes() == second.read_bytes()


@pytest.mark.parametrize('version', ['0.4', '0.5'])
@pytest.mark.parametrize('axes', ['YX', 'TZYX'])
def test_zarr(tmp_path, monkeypatch, version, axes):
  monkeypatch.setattr(label_files, 'BLOCK', 32)
  labels = LABELS[(0,) * (4 - len(axes))]
  path = tmp_path / 'a.ome.zarr'
  options = {'axes': axes, 'pixel_size': (0.5, 0.65), 'version': version}
  write_zarr_labels(path, labels + 1, **options)
  write_zarr_labels(path, labels, **options)  # Over an older one.
  assert [file.name for file in tmp_path.iterdir()] == ['a.ome.zarr']

  (node,) = Reader(parse_url(path))()
  assert any(isinstance(spec, Label) for spec in node.specs)
  assert [axis['name'] for axis in node.metadata['axes']] == list(axes.lower())
  assert node.metadata['axes'][-1]['unit'] == 'micrometer'
  ((transform,),) = node.metadata['coordinateTransformations']
  assert transform['scale'] == [1] * (len(axes) - 2) + [0.5, 0.65]
  assert node.data[0].dtype == np.uint32
  np.testing.assert_array_equal(node.data[0], labels)

  group = zarr.open_group(path, mode='r')
  assert group['0'].chunks == (1,) * (len(axes) - 2) + (32, 32)
  model = ome_zarr_models.open_ome_zarr(group)
  assert model.ome_zarr_version == version
  assert type(model).__name__ == 'ImageLabel'
  with open_image(path) as source:
    assert (source.axes, source.pixel_size) == (axes, (0.5, 0.65))


class Computed:
  """Labels that are computed where they are read, as those of a huge image."""

  def __init__(self, side):
    self.shape, self.dtype = (side, side), np.dtype(np.int32)
    self.largest = 0

  def __getitem__(self, index):
    rows, columns = (np.arange(self.shape[0])[part] // 50 for part in index)
    labels = rows[:, None] * 1000 + columns[None, :]
    self.largest = max(self.largest, labels.size)
    return labels.astype(np.int32)


@pytest.mark.parametrize('write', [write_labels, write_zarr_labels])
def test_large_labels_take_the_memory_of_blocks(tmp_path, write):
  labels = Computed(5000)
  path = tmp_path / ('a.tif' if write is write_labels else 'a.zarr')
  write(path, labels.__class__(64))  # What is imported late.
  tracemalloc.start()
  write(path, labels)
  _, peak = tracemalloc.get_traced_memory()
  tracemalloc.stop()
  assert labels.largest == label_files.BLOCK**2
  assert peak < 5000**2 * 4 / 2
  with open_image(path) as source:
    np.testing.assert_array_equal(
      source[4000:, 1020:1080], labels[4000:, 1020:1080]
    )


def test_a_file_beyond_4_gib_is_big_tiff(tmp_path, monkeypatch):
  monkeypatch.setattr(label_files, '_LARGEST_TIFF', 1000)
  write_labels(tmp_path / 'a.tif', LABELS[0, 0])
  with tifffile.TiffFile(tmp_path / 'a.tif') as file:
    assert file.is_bigtiff
    np.testing.assert_array_equal(file.asarray(), LABELS[0, 0])


@pytest.mark.parametrize('write', [write_labels, write_zarr_labels])
@pytest.mark.parametrize(
  ('labels', 'axes', 'message'),
  [
    (np.zeros((3, 3)), 'YX', 'labels must be integers .* found float64'),
    (np.zeros((3, 3), bool), 'YX', 'labels must be integers'),
    (np.zeros((3, 3, 1), int), 'YX', r'labels must be integers .*\(3, 3, 1\)'),
    (np.zeros((3, 3), int), 'TYX', 'labels must be .* with axes TYX, found'),
    (np.zeros((3, 3), int), 'XY', 'axes of labels must be YX'),
    (np.zeros((0, 3), int), 'YX', 'labels must have pixels'),
    (np.full((3, 3), -1), 'YX', 'labels must be 0 to .* found -1 to 0'),
    (np.full((3, 3), 2**32), 'YX', 'labels must be 0 to .* to 4294967296'),
  ],
)
def test_what_cannot_be_written_leaves_nothing(
  tmp_path, write, labels, axes, message
):
  with pytest.raises(ValueError, match=rf'a\.x: {message}'):
    write(tmp_path / 'a.x', labels, axes=axes)
  assert not list(tmp_path.iterdir())


class Failing(Computed):
  """Labels of which some cannot be had."""

  def __getitem__(self, index):
    if index[0].start > 0:
      raise OSError('disk full')
    return super().__getitem__(index)


@pytest.mark.parametrize('write', [write_labels, write_zarr_labels])
def test_a_write_that_fails_leaves_the_old_labels(tmp_path, monkeypatch, write):
  monkeypatch.setattr(label_files, '_LARGEST_UNTILED', 100)
  monkeypatch.setattr(label_files, 'BLOCK', 32)
  name = 'a.tif' if write is write_labels else 'a.zarr'
  write(tmp_path / name, LABELS[0, 0])
  failing = Failing(100)
  failing.dtype = np.dtype(np.uint16)  # So that it is met when writing.
  with pytest.raises(OSError, match='disk full'):
    write(tmp_path / name, failing)
  assert [file.name for file in tmp_path.iterdir()] == [name]
  with open_image(tmp_path / name) as source:
    np.testing.assert_array_equal(source.read(), LABELS[0, 0])
