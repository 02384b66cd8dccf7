"""The instance metrics: by hand, and against the independent scorer."""

import importlib.util
import pathlib

import numpy as np
import pytest
from scipy import ndimage
from skimage.io import imread

from cellseg_jax.config import DecodingConfig
from cellseg_jax.evaluation import scores
from cellseg_jax.evaluation.matching import overlap_table
from cellseg_jax.inference.decode import decode

SHARED = pathlib.Path(__file__).parents[3] / 'shared'


def squares(*corners, side=10, shape=(60, 60)):
  """Label image of squares with these upper left corners."""
  labels = np.zeros(shape, np.int32)
  for value, (row, column) in enumerate(corners, 1):
    labels[row : row + side, column : column + side] = value
  return labels


APART = squares((5, 5), (5, 25), (25, 5), (25, 25))


def measured(true, predicted):
  return scores.metrics(scores.count(true, predicted))


def test_a_perfect_prediction():
  names = np.array([0, 70, 3, 9, 1000])
  found = measured(APART, names[APART])
  ones = ('mean_ap', 'pq', 'seg', 'det', 'aji', 'boundary_f1', 'dice')
  assert {name: found[name] for name in ones} == dict.fromkeys(ones, 1.0)
  for name in ('precision', 'recall', 'f1', 'ap'):
    assert set(found[name].values()) == {1.0}
  for name in ('merged', 'split', 'missed', 'extra'):
    assert found[name] == 0
  assert (found['true'], found['predicted']) == (4, 4)


def test_nothing_found():
  found = measured(APART, 0 * APART)
  assert found['missed'] == 4
  assert found['f1']['0.5'] == found['seg'] == found['det'] == 0
  assert found['pq'] == found['aji'] == found['boundary_f1'] == 0
  empty = measured(0 * APART, APART)
  assert (empty['extra'], empty['true']) == (4, 0)
  assert measured(0 * APART, 0 * APART)['f1']['0.5'] == 0


def test_one_of_each_error():
  true = squares((0, 0), (0, 10), (0, 30), (20, 0), (20, 20))
  predicted = squares((0, 0), (0, 10), (0, 30), (20, 0), (40, 40))
  predicted[predicted == 2] = 1  # The first two are one.
  predicted[0:10, 35:40] = 9  # The third is two halves.
  # The fourth is right, the fifth missed, and one is extra.
  found = measured(true, predicted)
  assert found['merged'] == 2
  assert found['split'] == 1
  assert found['missed'] == 1
  assert found['extra'] == 1
  errors = scores.find_errors(overlap_table(true, predicted))
  assert errors.merged.tolist() == [1, 2]
  assert errors.split.tolist() == [3]
  assert errors.missed.tolist() == [5]
  assert errors.extra.tolist() == [5]
  # One merge, three true cells without a cover (a half is not more than a
  # half), two halves and an extra that cover none.
  cost = 5 * 1 + 10 * 2 + 1 * 3
  assert found['det'] == pytest.approx(1 - cost / 50)
  assert found['seg'] == pytest.approx((0.5 + 0.5 + 0 + 1 + 0) / 5)


def test_shifted_squares():
  """Every square moved by two of its ten pixels: IoU 8 / 12."""
  found = measured(APART, np.roll(APART, 2, axis=0))
  assert found['f1']['0.65'] == 1
  assert found['f1']['0.7'] == 0
  assert found['ap']['0.5'] == 1
  assert found['mean_ap'] == pytest.approx(0.4)
  assert found['pq'] == found['seg'] == pytest.approx(2 / 3)
  assert found['aji'] == pytest.approx(2 / 3)
  assert found['dice'] == pytest.approx(0.8)
  assert found['boundary_f1'] == 1


def test_the_boundary_may_miss_by_two_pixels():
  # Upper sides move by three and lie too far off; the others stay in part.
  found = measured(APART, np.roll(APART, 3, axis=0))
  assert 0.3 < found['boundary_f1'] < 0.95
  far = measured(squares((0, 0)), squares((40, 40)))
  assert far['boundary_f1'] == 0


def test_the_aggregated_jaccard_counts_extra_cells():
  one = squares((0, 0))
  assert measured(one, squares((0, 0), (30, 30)))['aji'] == 0.5
  assert measured(squares((0, 0), (30, 30)), one)['aji'] == 0.5


def test_images_are_pooled_not_averaged():
  good = scores.count(APART, APART)
  bad = scores.count(squares((0, 0)), squares((40, 40)))
  pooled = scores.metrics(scores.pool([good, bad]))
  assert pooled['f1']['0.5'] == pytest.approx(2 * 4 / 10)
  assert pooled['pq'] == pytest.approx(4 / 5)
  assert pooled['seg'] == pytest.approx(4 / 5)
  assert (pooled['missed'], pooled['extra']) == (1, 1)


def real_pairs(folder):
  """Real labels, and labels decoded from a noisy copy of their edges."""
  for path in sorted((SHARED / 'data' / folder / 'labels').glob('*.tif'))[:3]:
    true = imread(path)
    noise = np.random.default_rng(0).standard_normal(true.shape)
    noise = ndimage.gaussian_filter(noise, 10)
    inside = (true == np.roll(true, 3, 0)) & (true == np.roll(true, 2, 1))
    kept = (true > 0) * inside * (noise < noise.std())
    config = DecodingConfig(min_area=20, fill_holes=True, rim=2)
    predicted = decode({'foreground': kept > 0}, config, {'threshold': 0.5})
    yield true, predicted


@pytest.mark.skipif(not SHARED.is_dir(), reason='../shared is not here')
@pytest.mark.parametrize(
  'folder',
  ['neuroblastoma/train', 'phase_contrast/validation', 'dsb2018_fluo/train'],
)
def test_agrees_with_the_independent_scorer(folder):
  path = SHARED / 'tools' / 'score.py'
  spec = importlib.util.spec_from_file_location('score', path)
  score = importlib.util.module_from_spec(spec)
  spec.loader.exec_module(score)
  pairs = list(real_pairs(folder))
  expected = score.score(pairs)
  found = scores.metrics(scores.pool([scores.count(*pair) for pair in pairs]))
  assert 0.1 < found['f1']['0.7'] < 0.99
  for iou in ('0.5', '0.6', '0.7', '0.8', '0.9'):
    assert round(found['f1'][iou], 4) == expected[f'f1@{iou}']
    assert round(found['ap'][iou], 4) == expected[f'ap@{iou}']
  for name in (
    *('mean_ap', 'pq', 'seg', 'dice', 'true', 'predicted'),
    *('merged', 'split', 'missed', 'extra'),
  ):
    assert round(found[name], 4) == expected[name], name
