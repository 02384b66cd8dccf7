import imageio.v3 as iio
import numpy as np
import pytest
import tifffile
from tiny_sets import cells

from cellseg_jax.config import ConfigError
from cellseg_jax.datasets.load import load
from cellseg_jax.images import formats
from cellseg_jax.images.labels import LabelError

COLUMNS = 'Image_Name;Diagnosis;Train-/Testset split'


def write_s_bsst265(root, rows=(('a', 'train'), ('b', 'train'), ('c', 'test'))):
  for folder in ('rawimages', 'groundtruth'):
    (root / folder).mkdir()
  lines = [COLUMNS]
  for seed, (name, split) in enumerate(rows):
    image, labels = cells(seed)
    tifffile.imwrite(root / 'rawimages' / f'{name}.tif', image)
    tifffile.imwrite(root / 'groundtruth' / f'{name}.tif', labels)
    lines.append(f'{name};Neuroblastoma;{split}')
  (root / 'image_description.csv').write_text('\n'.join(lines))


def test_s_bsst265_splits_by_its_table(place):
  write_s_bsst265(place.path)
  splits = load(place.config('s_bsst265'))
  assert [image.name for image in splits.train] == ['a', 'b']
  # The test images are never used to choose anything.
  assert splits.validation_source == 'held-out crops of the training images'
  np.testing.assert_array_equal(splits.train[1].labels, cells(1)[1])
  named = load(place.config('s_bsst265', validation_split='test'))
  assert [image.name for image in named.validation] == ['c']


def test_s_bsst265_faults_name_file_and_page(place):
  config = place.config('s_bsst265')
  with pytest.raises(ConfigError, match=r'no .*description\.csv.*S-BSST265'):
    load(config)
  write_s_bsst265(place.path, [('a', 'train'), ('b', 'both')])
  with pytest.raises(ConfigError, match=r"line 3: .* found 'both'"):
    load(config)
  table = place.path / 'image_description.csv'
  table.write_text(f'{COLUMNS}\nz;;train')
  with pytest.raises(ConfigError, match=r'no .*z\.tif; download'):
    load(config)
  table.write_text('Image_Name,Split\na,train')
  with pytest.raises(ConfigError, match=r'no column .Image_Name'):
    load(config)
  table.write_text(COLUMNS)
  with pytest.raises(ConfigError, match='lists no image'):
    load(config)


def write_bbbc038(root, name, color=False, seed=0):
  image, labels = cells(seed)
  folder = root / 'stage1_train' / name
  for part in ('images', 'masks'):
    (folder / part).mkdir(parents=True)
  opaque = np.full_like(image, 255)
  green = image // 2 if color else image
  picture = np.stack([image, green, image, opaque], axis=-1)
  iio.imwrite(folder / 'images' / f'{name}.png', picture)
  for value in range(1, labels.max() + 1):
    mask = ((labels == value) * 255).astype(np.uint8)
    iio.imwrite(folder / 'masks' / f'{value:03d}.png', mask)
  return picture, labels


def test_bbbc038_numbers_its_masks(place):
  write_bbbc038(place.path, 'aa')
  picture, labels = write_bbbc038(place.path, 'bb', seed=1)
  write_bbbc038(place.path, 'cc', color=True)
  grey = load(place.config('bbbc038'))
  assert [image.name for image in grey.train] == ['aa', 'bb']
  np.testing.assert_array_equal(grey.train[1].image, picture[..., 0])
  np.testing.assert_array_equal(grey.train[1].labels, labels)
  assert grey.warnings[0].startswith('images left out, coloured')
  color = load(place.config('bbbc038', channels=3))
  assert [image.image.shape for image in color.train] == [(60, 80, 3)] * 3


def test_bbbc038_faults_name_file_and_page(place):
  config = place.config('bbbc038')
  with pytest.raises(ConfigError, match=r'no .*stage1_train; .*BBBC038'):
    load(config)
  write_bbbc038(place.path, 'aa')
  mask = place.path / 'stage1_train' / 'aa' / 'masks' / '001.png'
  iio.imwrite(mask, np.zeros((5, 5), np.uint8))
  with pytest.raises(LabelError, match=r'001\.png: mask is of shape \(5, 5\)'):
    load(config)
  (place.path / 'stage1_train' / 'aa' / 'images' / 'aa.png').unlink()
  with pytest.raises(ConfigError, match=r'no .*aa\.png; download'):
    load(config)


def write_ctc(root, sequence, frame, *, unlabelled=0, segmented=True):
  image, labels = cells(int(frame))
  truth = root / f'{sequence}_GT'
  for folder in (root / sequence, truth / 'SEG', truth / 'TRA'):
    folder.mkdir(parents=True, exist_ok=True)
  tifffile.imwrite(root / sequence / f't{frame}.tif', image)
  markers = truth / 'TRA' / f'man_track{frame}.tif'
  formats.write_labels(markers, labels)
  if segmented:
    labels[labels > labels.max() - unlabelled] = 0
    formats.write_labels(truth / 'SEG' / f'man_seg{frame}.tif', labels)


@pytest.mark.parametrize('inside', ['', 'Fluo-N2DH-SIM+'])
def test_cell_tracking_challenge_takes_complete_frames(place, inside):
  root = place.path / inside
  write_ctc(root, '01', '000')
  write_ctc(root, '01', '001', segmented=False)
  write_ctc(root, '02', '007', unlabelled=1)
  write_ctc(root, '02', '0010')
  splits = load(place.config('cell_tracking_challenge'))
  assert [image.name for image in splits.train] == ['01_t000', '02_t0010']
  assert splits.warnings == (
    'images left out, partly annotated (fewer SEG cells than TRA markers): 1',
  )


def test_cell_tracking_challenge_faults_name_file_and_page(place):
  config = place.config('cell_tracking_challenge')
  with pytest.raises(ConfigError, match=r'no .*SEG; .*celltrackingchallenge'):
    load(config)
  write_ctc(place.path / 'one', '01', '000', unlabelled=1)
  with pytest.raises(LabelError, match=r'no cell .* partly annotated'):
    load(config)
  write_ctc(place.path / 'two', '01', '000')
  with pytest.raises(ConfigError, match=r'holds 2 data sets \(one, two\)'):
    load(config)
  place.path = place.path / 'two'
  (place.path / '01' / 't000.tif').unlink()
  with pytest.raises(ConfigError, match=r'no .*t000\.tif; download'):
    load(place.config('cell_tracking_challenge'))
