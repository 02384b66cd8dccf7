import pathlib

import imageio.v3 as iio
import numpy as np
import pytest
from scipy import ndimage
from skimage.transform import resize

from cellseg_jax.images import formats
from cellseg_jax.images.labels import check_pair, LabelError

SHARED = pathlib.Path(__file__).parents[3] / 'shared' / 'data'


def discs(count=6, size=120, radius=8):
  """Touching and separate discs, one value each, on a grid."""
  labels = np.zeros((size, size), np.uint16)
  y, x = np.mgrid[:size, :size]
  for i in range(count):
    row, column = divmod(i, 3)
    center = (20 + 30 * row, 20 + 16 * column)
    near = np.hypot(y - center[0], x - center[1]) < radius
    labels[near & (labels == 0)] = 3 * i + 7
  return labels


def noise(labels):
  return np.random.default_rng(0).normal(size=labels.shape)


def check(labels, image=None, **options):
  return check_pair(
    noise(labels) if image is None else image, labels, 'dir/a.tif', **options
  )


def test_good_labels_are_kept():
  labels = discs()
  checked = check(labels)
  assert checked.labels.dtype == np.int32
  np.testing.assert_array_equal(checked.labels, labels)
  assert checked.valid.all()
  assert checked.warnings == {}


@pytest.mark.parametrize(
  ('labels', 'fault'),
  [
    (discs()[:-1], r'labels are of shape \(119, 120\), the image'),
    (discs().astype(np.float32), 'type float32, not integer.*astype'),
    (-discs().astype(np.int16), 'negative values'),
    (discs() > 0, 'labels are binary.*components'),
    ((discs() > 0) * np.uint8(255), 'binary: the one value 255 is in 6 pieces'),
  ],
)
def test_faulty_labels_are_refused(labels, fault):
  with pytest.raises(LabelError, match=rf'dir/a\.tif: .*{fault}'):
    check(labels, noise(discs()))


def test_faulty_images_are_refused():
  labels = discs()
  image = noise(labels)
  image[3, 4] = np.nan
  image[5, 6] = np.inf
  with pytest.raises(LabelError, match=r'a\.tif: .* 2 values .* \(3, 4\)'):
    check(labels, image)
  with pytest.raises(LabelError, match=r'config\.data\.channels=3'):
    check(labels, np.zeros((120, 120, 3)))
  with pytest.raises(LabelError, match='of type bool'):
    check(labels, labels > 0)


def test_channels_as_configured_pass():
  labels = discs()
  image = np.stack([noise(labels)] * 2, axis=-1)
  assert check(labels, image, channels=2).warnings == {}


def test_binary_labels_become_components_when_asked():
  mask = discs(radius=7) > 0
  checked = check(mask, binary_labels='components')
  assert set(np.unique(checked.labels)) == set(range(7))
  np.testing.assert_array_equal(checked.labels > 0, mask)


def test_one_cell_is_not_binary():
  mask = discs(count=1) > 0
  np.testing.assert_array_equal(check(mask).labels, mask)
  mask[100, 100] = True  # A stray pixel.
  assert check(mask).warnings == {'pieces': 1}
  two = discs(radius=7) > 0
  assert check(two, binary_labels='instances').labels.max() == 1


def test_ignored_pixels_are_not_valid():
  labels = discs()
  labels[:, :10] = 65535
  checked = check(labels, ignore_value=65535)
  np.testing.assert_array_equal(checked.valid, labels != 65535)
  assert not checked.labels[:, :10].any()


def test_values_beyond_int32_are_renumbered():
  labels = discs(count=2).astype(np.uint32)
  labels[labels == 7] = 2**32 - 1
  checked = check(labels)
  np.testing.assert_array_equal(checked.labels == 2, labels == 2**32 - 1)
  np.testing.assert_array_equal(checked.labels == 1, labels == 10)


def test_warnings_are_counted():
  labels = discs()
  labels[110, 5] = 7  # A second piece of the first cell.
  labels[110:112, 60:65] = 99
  labels[110:112, 80:85] = 98
  assert check(labels).warnings == {'pieces': 1, 'tiny': 2}
  blank = np.zeros((50, 40), np.uint8)
  assert check(blank, blank).warnings == {'empty': 1, 'constant': 1}


def interpolations():
  def by(order, factor, **options):
    def change(labels):
      shape = [int(side * factor) for side in labels.shape]
      return resize(
        labels.astype(float), shape, order, preserve_range=True, **options
      )

    return change

  def jpeg(labels):
    encoded = iio.imwrite(
      '<bytes>', labels.astype(np.uint8), extension='.jpg', quality=95
    )
    return iio.imread(encoded)

  return {
    'linear, half': by(1, 0.5, anti_aliasing=False),
    'linear, 0.4': by(1, 0.4, anti_aliasing=False),
    'linear, antialiased': by(1, 0.5, anti_aliasing=True),
    'linear, double': by(1, 2),
    'cubic, half': by(3, 0.5, anti_aliasing=False),
    'cubic, 1.3': by(3, 1.3),
    'smoothed': lambda labels: ndimage.gaussian_filter(1.0 * labels, 1),
    'antialiased mask': lambda labels: ndimage.gaussian_filter(
      255.0 * (labels > 0), 0.7
    ),
    'jpeg': jpeg,
  }


@pytest.mark.parametrize('kind', interpolations())
def test_interpolated_edges_are_refused(kind):
  changed = interpolations()[kind](discs() * 5)
  labels = np.round(changed).clip(0).astype(np.uint16)
  with pytest.raises(LabelError, match=r'a\.tif: labels have interpolated'):
    check(labels)


def test_nearest_neighbour_and_tiny_cells_pass():
  small = resize(
    discs(), (60, 60), order=0, preserve_range=True, anti_aliasing=False
  )
  check(small.astype(np.uint16))
  dots = np.zeros((90, 90), np.uint16)
  dots[::3, ::3] = 1 + np.arange(900).reshape(30, 30)
  assert check(dots).warnings == {'tiny': 900}


@pytest.mark.skipif(not SHARED.is_dir(), reason='needs ../shared/data')
@pytest.mark.parametrize(
  'folder', ['neuroblastoma', 'phase_contrast', 'dsb2018_fluo']
)
def test_real_labels_pass_and_their_interpolations_do_not(folder):
  files = sorted(SHARED.glob(f'{folder}/*/labels/*.tif'))
  pieces = 0
  for path in files:
    labels = formats.read_labels(path)
    image = np.broadcast_to(np.arange(labels.shape[1]), labels.shape)
    warnings = check_pair(image, labels, str(path)).warnings
    pieces += warnings.get('pieces', 0) * ('train' in path.parts)
  assert pieces == (74 if folder == 'phase_contrast' else 0)
  shape = [side // 2 for side in labels.shape]
  for order in (1, 3):
    changed = resize(
      labels.astype(float), shape, order, preserve_range=True
    ).clip(0)
    with pytest.raises(LabelError, match='interpolated'):
      check(np.round(changed).astype(np.uint16))
