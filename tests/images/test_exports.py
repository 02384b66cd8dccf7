"""Exports, read back by other libraries: the same cells, pixel by pixel."""

import json
import zipfile

import imageio.v3 as iio
from label_scenes import SCENES
import numpy as np
from PIL import Image
from pycocotools.coco import COCO
import pytest
from read_roi import read_roi_zip
import shapely
from skimage.draw import polygon2mask

from cellseg_jax.images import exports
from cellseg_jax.images.cells import measure_cells


def values(labels):
  return sorted(set(labels.ravel().tolist()) - {0})


def confidences(labels):
  return np.float32(np.random.default_rng(0).random(len(values(labels))))


def table(labels, **options):
  image = np.random.default_rng(1).random(labels.shape)
  return measure_cells(
    labels, image, confidences(labels), file='a.tif', **options
  )


def rings_of(roi):
  """Rings of an ImageJ ROI as read_roi returns it, (N, 2) as x, y."""
  if roi['type'] == 'composite':
    return [np.array(path) for path in roi['paths']]
  assert roi['type'] == 'traced'
  return [np.stack([roi['x'], roi['y']], axis=-1)]


@pytest.mark.parametrize('name', SCENES)
def test_rois_hold_exactly_the_pixels(tmp_path, name):
  labels = SCENES[name]
  exports.write_rois(tmp_path / 'a.zip', labels)
  rois = read_roi_zip(str(tmp_path / 'a.zip'))
  assert sorted(map(int, rois)) == values(labels)
  for label, roi in rois.items():
    inside = np.zeros(labels.shape, bool)
    for ring in rings_of(roi):
      # Middles of pixels, which no ring meets; holes by the even-odd rule.
      inside ^= polygon2mask(labels.shape, ring[:, ::-1] - 0.5)
    np.testing.assert_array_equal(inside, labels == int(label))


def test_roi_files_cannot_lie_elsewhere_and_are_the_same_each_time(tmp_path):
  for name in ('a.zip', 'b.zip'):
    exports.write_rois(tmp_path / name, SCENES['tricky'])
  with zipfile.ZipFile(tmp_path / 'a.zip') as archive:
    assert archive.namelist()[:3] == ['0004.roi', '0007.roi', '0012.roi']
    assert archive.testzip() is None
  one, two = (tmp_path / name for name in ('a.zip', 'b.zip'))
  assert one.read_bytes() == two.read_bytes()


def test_rois_beyond_their_coordinates(tmp_path):
  labels = np.zeros((3, 60_535), np.uint8)
  labels[1:, 33_000:33_010] = 1
  labels[:2, -5:] = 2
  exports.write_rois(tmp_path / 'a.zip', labels)
  rois = read_roi_zip(str(tmp_path / 'a.zip'))
  assert rings_of(rois['0001'])[0].max(0).tolist() == [33_010, 3]
  assert rings_of(rois['0002'])[0].max(0).tolist() == [60_535, 2]
  with pytest.raises(ValueError, match=r'a\.zip: ImageJ ROIs end at 60535'):
    exports.write_rois(tmp_path / 'a.zip', np.zeros((1, 60_536), np.uint8))


@pytest.mark.parametrize('name', SCENES)
def test_geojson_holds_exactly_the_pixels(tmp_path, name):
  labels = SCENES[name]
  exports.write_geojson(tmp_path / 'a.geojson', labels, table(labels))
  text = (tmp_path / 'a.geojson').read_text()
  found = shapely.from_geojson(text)  # The collection of all geometries.
  assert len(found.geoms) == len(values(labels))
  y, x = np.indices(labels.shape) + 0.5
  for label, cell in zip(values(labels), found.geoms, strict=True):
    assert cell.is_valid
    assert cell.area == (labels == label).sum()
    inside = shapely.contains_xy(cell, x, y)
    np.testing.assert_array_equal(inside, labels == label)


def test_geojson_has_what_qupath_reads(tmp_path):
  labels = SCENES['tricky']
  measured = table(labels, pixel_size=(0.5, 0.5))
  exports.write_geojson(tmp_path / 'a.geojson', labels, measured)
  content = json.loads((tmp_path / 'a.geojson').read_text())
  assert content['type'] == 'FeatureCollection'
  for i, feature in enumerate(content['features']):
    assert feature['type'] == 'Feature'
    properties = feature['properties']
    assert properties['objectType'] == 'detection'
    assert properties['name'] == str(measured['label'][i])
    numbers = properties['measurements']
    assert {'area_um2', 'mean_intensity_c0', 'touches_border'} < set(numbers)
    assert all(type(value) is float for value in numbers.values())
    assert numbers['confidence'] == measured['confidence'][i]
  unknown = table(labels)
  exports.write_geojson(tmp_path / 'a.geojson', labels, unknown)
  assert 'NaN' not in (tmp_path / 'a.geojson').read_text()
  with pytest.raises(ValueError, match=r'a\.geojson: the table is not that'):
    exports.write_geojson(tmp_path / 'a.geojson', 2 * (labels > 0), unknown)


@pytest.mark.parametrize('name', SCENES)
def test_coco_holds_exactly_the_pixels(tmp_path, name):
  labels = SCENES[name]
  exports.write_coco(
    tmp_path / 'a.json', labels, confidences(labels), 'night/a.tif'
  )
  coco = COCO(tmp_path / 'a.json')
  (image,) = coco.loadImgs(coco.getImgIds())
  assert image['file_name'] == 'night/a.tif'
  assert (image['height'], image['width']) == labels.shape
  (category,) = coco.loadCats(coco.getCatIds())
  assert category['name'] == 'cell'
  annotations = coco.loadAnns(coco.getAnnIds(imgIds=image['id']))
  assert [one['id'] for one in annotations] == values(labels)
  for one, confidence in zip(annotations, confidences(labels), strict=True):
    cell = labels == one['id']
    np.testing.assert_array_equal(coco.annToMask(one), cell)
    x, y, width, height = one['bbox']
    assert cell[y : y + height, x : x + width].sum() == one['area']
    assert cell.sum() == one['area']
    rows, columns = np.nonzero(cell)
    assert (width, height) == (np.ptp(columns) + 1, np.ptp(rows) + 1)
    assert one['score'] == pytest.approx(confidence, abs=1e-6)


def test_coco_refuses_confidences_of_other_labels(tmp_path):
  with pytest.raises(ValueError, match='one for each label'):
    exports.write_coco(
      tmp_path / 'a.json', SCENES['tricky'], np.ones(3), 'a.tif'
    )
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize('pixel_size', [None, (0.5, 0.25)])
def test_probability_with_its_pixel_size(tmp_path, pixel_size):
  probability = np.random.default_rng(0).random((20, 31))
  exports.write_probability(tmp_path / 'p.tif', probability, pixel_size)
  with Image.open(tmp_path / 'p.tif') as image:
    assert image.mode == 'F'
    np.testing.assert_array_equal(np.array(image), np.float32(probability))
    described = image.tag_v2[270]
    resolution = image.tag_v2[282], image.tag_v2[283]
  assert described.startswith('ImageJ=')
  assert ('unit=um' in described) == bool(pixel_size)
  if pixel_size:
    assert resolution == (4, 2)


def test_overlay_opens_as_picture(tmp_path):
  labels = SCENES['blobs']
  image = np.random.default_rng(0).integers(0, 999, labels.shape, np.uint16)
  exports.write_overlay(tmp_path / 'a.png', image, labels)
  picture = iio.imread(tmp_path / 'a.png')
  assert picture.shape == (*labels.shape, 3)
  assert (np.ptp(picture.astype(int), axis=-1) > 0).any()


def test_no_cell_is_a_valid_file_of_each_kind(tmp_path):
  labels = np.zeros((9, 7), np.uint16)
  exports.write_rois(tmp_path / 'a.zip', labels)
  exports.write_geojson(tmp_path / 'a.geojson', labels, table(labels))
  exports.write_coco(tmp_path / 'a.json', labels, np.zeros(0), 'a.tif')
  exports.write_overlay(tmp_path / 'a.png', labels, labels)
  assert read_roi_zip(str(tmp_path / 'a.zip')) == {}
  text = (tmp_path / 'a.geojson').read_text()
  assert shapely.from_geojson(text).is_empty
  assert COCO(tmp_path / 'a.json').getAnnIds() == []
  assert (iio.imread(tmp_path / 'a.png') == 0).all()
