"""The table of cells: by hand, and against scikit-image cell by cell."""

from label_scenes import SCENES
import numpy as np
import pytest
from skimage.measure import regionprops_table

from cellseg_jax.images import cells
from cellseg_jax.images.labels import renumbered

# Our names, and those of scikit-image, of what has a unit of length.
LENGTHS = {
  'centroid_y': 'centroid-0',
  'centroid_x': 'centroid-1',
  'perimeter': 'perimeter',
  'major_axis': 'axis_major_length',
  'minor_axis': 'axis_minor_length',
}
PLAIN = {
  'orientation': 'orientation',
  'eccentricity': 'eccentricity',
  'solidity': 'solidity',
  'area_px': 'area',
}


def confidences(labels):
  return np.linspace(0, 1, len(set(labels.ravel().tolist()) - {0}))


def measure(labels, image=None, **options):
  image = np.zeros(labels.shape) if image is None else image
  return cells.measure_cells(
    labels, image, confidences(labels), file='a.tif', **options
  )


def reference(labels, names, spacing=(1, 1)):
  """scikit-image's figures, of labels that it has room for."""
  properties = tuple(dict.fromkeys(name.split('-')[0] for name in names))
  return regionprops_table(
    renumbered(labels)[0], properties=properties, spacing=spacing
  )


def test_a_rectangle_by_hand():
  labels = np.zeros((20, 30), np.uint16)
  labels[4:8, 10:18] = 4_000
  labels[15:, :3] = 7
  image = np.arange(600.0).reshape(20, 30)
  table = cells.measure_cells(
    labels,
    np.dstack([image, -image]),
    np.array([0.25, 0.75], np.float32),
    file='night/a.tif',
    frame=3,
    pixel_size=(0.5, 0.5),
  )
  row = {name: column[1] for name, column in table.items()}
  assert row['file'] == 'night/a.tif'
  assert (row['frame'], row['label']) == (3, 4_000)
  assert (row['centroid_y_px'], row['centroid_x_px']) == (5.5, 13.5)
  assert (row['centroid_y_um'], row['centroid_x_um']) == (2.75, 6.75)
  sides = ('top', 'left', 'bottom', 'right')
  assert [row[f'box_{side}_px'] for side in sides] == [4, 10, 8, 18]
  assert [row[f'box_{side}_um'] for side in sides] == [2, 5, 4, 9]
  assert (row['area_px'], row['area_um2']) == (32, 8)
  assert abs(row['orientation']) == pytest.approx(np.pi / 2)
  assert row['solidity'] == 1
  assert row['confidence'] == 0.75
  within = image[4:8, 10:18]
  for channel, values in enumerate((within, -within)):
    assert row[f'mean_intensity_c{channel}'] == values.mean()
    assert row[f'min_intensity_c{channel}'] == values.min()
    assert row[f'max_intensity_c{channel}'] == values.max()
    assert row[f'integrated_intensity_c{channel}'] == values.sum()
  assert table['touches_border'].tolist() == [True, False]


@pytest.mark.parametrize('name', SCENES)
def test_shapes_and_intensities_are_those_of_scikit_image(name):
  labels = SCENES[name]
  random = np.random.default_rng(0)
  image = random.integers(0, 60_000, (*labels.shape, 2)).astype(np.uint16)
  table = measure(labels, image, pixel_size=(0.3, 0.3))
  assert table['label'].tolist() == sorted(set(labels.ravel().tolist()) - {0})
  in_pixels = reference(labels, [*PLAIN.values(), *LENGTHS.values()])
  in_um = reference(labels, [*LENGTHS.values(), 'area'], spacing=(0.3, 0.3))
  for ours, theirs in PLAIN.items():
    np.testing.assert_allclose(table[ours], in_pixels[theirs])
  for ours, theirs in LENGTHS.items():
    np.testing.assert_allclose(table[f'{ours}_px'], in_pixels[theirs])
    np.testing.assert_allclose(table[f'{ours}_um'], in_um[theirs])
  np.testing.assert_allclose(table['area_um2'], in_um['area'])
  for i, label in enumerate(table['label']):
    values = image[labels == label].astype(float)
    for channel in (0, 1):
      for measured, expected in (
        ('mean', values.mean(0)),
        ('min', values.min(0)),
        ('max', values.max(0)),
        ('integrated', values.sum(0)),
      ):
        found = table[f'{measured}_intensity_c{channel}'][i]
        assert found == pytest.approx(expected[channel], rel=1e-12)


def test_pixels_that_are_not_square():
  """A circle of 20 um, seen with pixels twice as high as wide."""
  y, x = np.mgrid[-30:31, -60:61]
  labels = np.where((y / 20) ** 2 + (x / 40) ** 2 <= 1, 9, 0)
  table = measure(labels, pixel_size=(1.0, 0.5))
  assert table['eccentricity'][0] < 0.1
  assert table['major_axis_um'][0] == pytest.approx(40, rel=0.01)
  assert table['minor_axis_um'][0] == pytest.approx(40, rel=0.01)
  assert table['major_axis_px'][0] == pytest.approx(80, rel=0.01)
  assert table['area_um2'][0] == pytest.approx(np.pi * 20**2, rel=0.01)
  assert np.isnan(table['perimeter_um'][0])
  labels = SCENES['blobs']
  table = measure(labels, pixel_size=(1.0, 0.4))
  names = [name for name in LENGTHS.values() if name != 'perimeter']
  true = reference(labels, [*names, 'orientation'], spacing=(1.0, 0.4))
  np.testing.assert_allclose(table['orientation'], true['orientation'])
  for ours, theirs in LENGTHS.items():
    if theirs in names:
      np.testing.assert_allclose(table[f'{ours}_um'], true[theirs])


def test_pixels_that_are_square_but_for_rounding():
  table = measure(SCENES['blobs'], pixel_size=(0.325, 0.32500001))
  perimeter = 0.325 * table['perimeter_px']
  np.testing.assert_allclose(table['perimeter_um'], perimeter, rtol=1e-6)


def test_without_a_pixel_size_nothing_is_said_in_um():
  table = measure(SCENES['blobs'])
  for name, column in table.items():
    if column.dtype.kind == 'f':
      assert np.isnan(column).all() == ('_um' in name), name


@pytest.mark.parametrize('shape', [(1, 1), (31, 5)])
@pytest.mark.parametrize('pixel_size', [None, (0.3, 0.3), (0.3, 0.5)])
def test_no_cell_is_a_table_without_rows(shape, pixel_size):
  empty = measure(np.zeros(shape, int), pixel_size=pixel_size)
  full = measure(SCENES['blobs'], pixel_size=pixel_size)
  assert list(empty) == list(full)
  for name, column in empty.items():
    assert column.shape == (0,)
    assert column.dtype == full[name].dtype, name


def test_a_cell_of_one_pixel():
  table = measure(np.full((1, 1), 3), np.full((1, 1), 7), pixel_size=(2, 2))
  assert table['area_um2'].tolist() == [4]
  assert table['solidity'].tolist() == [1]
  assert table['mean_intensity_c0'].tolist() == [7]
  assert table['touches_border'].tolist() == [True]


@pytest.mark.parametrize('channels', [0, 1, 3])
def test_the_columns_are_those_described(channels):
  described = cells.columns(channels)
  assert len({column.name for column in described}) == len(described)
  assert len(described) == len(cells.COLUMNS) + 4 * channels
  for column in described:
    assert column.meaning
    assert column.name.endswith('_um') == (column.unit == 'um')
  if channels:
    labels = SCENES['blobs']
    image = np.zeros((*labels.shape, channels))
    table = measure(labels, image)
    assert list(table) == [column.name for column in described]
    kinds = {str: 'O', int: 'i', float: 'f', bool: 'b'}
    for column in described:
      assert table[column.name].dtype.kind == kinds[column.kind]


def test_what_does_not_fit_is_refused():
  labels = SCENES['tricky']
  count = confidences(labels).size
  with pytest.raises(ValueError, match=r'image is of \(3, 4\)'):
    measure(labels, np.zeros((3, 4)))
  with pytest.raises(ValueError, match=f'there are {count} labels'):
    cells.measure_cells(
      labels, np.zeros(labels.shape), np.ones(count + 1), file=''
    )
