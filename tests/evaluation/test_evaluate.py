"""Evaluation of probabilities on labelled images."""

import json

import numpy as np
import pytest
from scipy import ndimage

from cellseg_jax.config import DecodingConfig
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation import matching
from cellseg_jax.evaluation.evaluate import evaluate, roc_from
from cellseg_jax.evaluation.roc import roc_curve
from cellseg_jax.inference.decode import decode

DECODING = DecodingConfig(min_area=10, rim=0)
HALF = {'threshold': 0.5}


def labelled(seed, name, cells=6):
  """An image of discs and the map of a fair network."""
  random = np.random.default_rng(seed)
  labels = np.zeros((90, 110), np.int32)
  y, x = np.indices(labels.shape)
  for cell in range(1, cells + 1):
    row, column = random.integers(10, (80, 100))
    labels[(y - row) ** 2 + (x - column) ** 2 < 80] = cell
  clean = ndimage.gaussian_filter((labels > 0).astype(float), 1.5)
  noise = ndimage.gaussian_filter(random.standard_normal(labels.shape), 1)
  probability = np.clip(clean + 0.4 * noise, 0, 1).astype(np.float32)
  valid = np.ones(labels.shape, bool)
  maps = {'foreground': probability}
  return LabelledImage(name, labels * 100, labels, valid), maps


@pytest.fixture(name='pairs')
def fixture_pairs():
  images, maps = zip(
    *(labelled(seed, f'image_{seed}') for seed in range(3)), strict=True
  )
  return maps, images


def test_keys_and_json(pairs):
  result = evaluate(*pairs, DECODING, HALF)
  assert json.loads(json.dumps(result, allow_nan=False)) == result
  assert list(result['tpr_at_fpr']) == ['0.01', '0.02', '0.05', '0.1']
  assert list(result['f1'])[:3] == ['0.5', '0.55', '0.6']
  assert len(result['f1']) == 10
  assert result['settings'] == HALF
  names = [image['name'] for image in result['images']]
  assert names == ['image_0', 'image_1', 'image_2']


def test_pools_pixels_and_cells(pairs):
  maps, images = pairs
  result = evaluate(*pairs, DECODING, {'threshold': 0.4})
  scores = np.stack([one['foreground'] for one in maps])
  truth = np.stack([image.labels for image in images]) > 0
  assert result['roc_auc'] == roc_curve(scores, truth).auc
  predicted = [decode(one, DECODING, {'threshold': 0.4}) for one in maps]
  counts = [
    matching.match(image.labels, labels)
    for image, labels in zip(images, predicted, strict=True)
  ]
  total = sum(counts[1:], counts[0])
  assert result['f1']['0.5'] == matching.f1(total)[0.5]
  assert result['dice'] == matching.dice(total)
  for one, count in zip(result['images'], counts, strict=True):
    assert one['f1'] == matching.f1(count)[0.5]
    assert one['true_cells'] == count.true_cells
    assert one['predicted_cells'] == count.predicted_cells


def test_the_curve_comes_back(pairs):
  result = evaluate(*pairs, DECODING, HALF)
  roc = roc_from(result)
  assert roc.auc == result['roc_auc']
  assert np.all(np.diff(roc.fpr) >= 0)
  assert np.trapezoid(roc.tpr, roc.fpr) == pytest.approx(roc.auc, abs=1e-3)


def test_perfect_probabilities():
  image, _ = labelled(0, 'apart', cells=2)
  result = evaluate(
    [{'foreground': (image.labels > 0) * 1.0}], [image], DECODING, HALF
  )
  assert result['roc_auc'] == 1
  assert set(result['f1'].values()) == {1.0}
  assert result['dice'] == 1


def test_only_valid_pixels_count(pairs):
  maps, images = pairs
  probability = maps[0]['foreground']
  valid = np.zeros(images[0].labels.shape, bool)
  valid[:, :50] = True
  half = LabelledImage('half', images[0].image, images[0].labels, valid)
  spoilt = np.where(valid, probability, 0).astype(np.float32)
  decoding = DecodingConfig(min_area=0, rim=0, fill_holes=False)
  kept = evaluate([{'foreground': spoilt}], [half], decoding, HALF)
  cut = LabelledImage(
    'half', half.image[:, :50], half.labels[:, :50], valid[:, :50]
  )
  assert kept == evaluate(
    [{'foreground': probability[:, :50]}], [cut], decoding, HALF
  )


def test_an_image_without_cells_has_no_auc_of_its_own(pairs):
  empty, of_empty = labelled(9, 'empty', cells=0)
  maps, images = pairs
  result = evaluate([*maps, of_empty], [*images, empty], DECODING, HALF)
  assert result['images'][-1]['roc_auc'] is None
  with pytest.raises(ValueError, match='cell pixels'):
    evaluate([of_empty], [empty], DECODING, HALF)


def test_refuses_what_does_not_fit(pairs):
  maps, images = pairs
  with pytest.raises(ValueError, match='2 sets of maps and 3 images'):
    evaluate(maps[:2], images, DECODING, HALF)
  with pytest.raises(ValueError, match=r'image_0: map foreground .*\(5, 5\)'):
    evaluate([{'foreground': np.zeros((5, 5))}], images[:1], DECODING, HALF)
  with pytest.raises(ValueError, match='0 sets of maps'):
    evaluate([], [], DECODING, HALF)
