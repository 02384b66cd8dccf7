"""Pixelwise ROC, against pair counting and by hand."""

import numpy as np
import pytest

from cellseg_jax.evaluation.roc import roc_curve, thin, tpr_at_fpr


def sample(seed, size=400, levels=None):
  random = np.random.default_rng(seed)
  truth = random.random(size) < 0.3
  scores = random.normal(truth, 1).astype(np.float32)
  if levels:
    scores = np.round(scores * levels) / levels
  return scores, truth


def pair_count(scores, truth):
  cell, background = scores[truth][:, None], scores[~truth][None]
  return np.mean((cell > background) + 0.5 * (cell == background))


@pytest.mark.parametrize('levels', [None, 1, 4])
@pytest.mark.parametrize('seed', range(3))
def test_auc_is_the_share_of_ordered_pairs(seed, levels):
  scores, truth = sample(seed, levels=levels)
  expected = pair_count(scores, truth)
  assert roc_curve(scores, truth).auc == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize('levels', [None, 4])
def test_every_point_counts_the_pixels_at_or_above_its_threshold(levels):
  scores, truth = sample(1, levels=levels)
  roc = roc_curve(scores, truth)
  called = scores >= roc.thresholds[:, None]
  np.testing.assert_allclose(roc.tpr, called[:, truth].mean(1), atol=1e-12)
  np.testing.assert_allclose(roc.fpr, called[:, ~truth].mean(1), atol=1e-12)
  assert np.all(np.diff(roc.thresholds) < 0)
  assert (roc.fpr[0], roc.tpr[0]) == (0, 0)
  assert (roc.fpr[-1], roc.tpr[-1]) == (1, 1)
  assert np.trapezoid(roc.tpr, roc.fpr) == pytest.approx(roc.auc, abs=1e-12)


def test_known_values():
  truth = np.array([True, True, False, False])
  assert roc_curve([0.9, 0.8, 0.2, 0.1], truth).auc == 1
  assert roc_curve([0.1, 0.2, 0.8, 0.9], truth).auc == 0
  assert roc_curve([0.5, 0.5, 0.5, 0.5], truth).auc == 0.5
  assert roc_curve([0.9, 0.3, 0.5, 0.1], truth).auc == 0.75


def test_scores_at_the_extremes_stay_finite():
  roc = roc_curve(np.array([1, 0], np.float32), [True, False])
  assert np.isfinite(roc.thresholds).all()
  assert roc.auc == 1


def test_pooling_is_concatenation_and_order_does_not_matter():
  scores, truth = sample(2)
  order = np.random.default_rng(0).permutation(scores.size)
  shuffled = roc_curve(
    scores[order].reshape(20, 20), truth[order].reshape(20, 20)
  )
  assert shuffled.auc == roc_curve(scores, truth).auc


def test_a_rising_change_of_scores_changes_nothing():
  scores, truth = sample(3)
  assert roc_curve(scores * 2, truth).auc == roc_curve(scores, truth).auc


def test_invalid_pixels_do_not_count():
  scores, truth = sample(4)
  valid = np.arange(scores.size) % 3 > 0
  scores[~valid] = np.nan
  masked = roc_curve(scores, truth, valid)
  assert masked.auc == roc_curve(scores[valid], truth[valid]).auc


def test_tpr_at_fpr_interpolates_and_takes_the_top_of_verticals():
  # Corners: (0, 0) (0, .5) (.5, .5) (.5, 1) (1, 1).
  roc = roc_curve([0.4, 0.3, 0.2, 0.1], [True, False, True, False])
  assert [tpr_at_fpr(roc, x) for x in (0, 0.2, 0.5, 0.7, 1)] == [
    *(0.5, 0.5, 1, 1, 1)
  ]
  tied = roc_curve([0.5, 0.5], [True, False])
  assert tpr_at_fpr(tied, 0.3) == pytest.approx(0.3)


def test_thin_keeps_ends_area_and_shape():
  scores, truth = sample(5, size=50_000)
  roc = roc_curve(scores, truth)
  thinned = thin(roc)
  assert 300 < thinned.fpr.size <= 500
  assert (thinned.fpr[0], thinned.tpr[0]) == (0, 0)
  assert (thinned.fpr[-1], thinned.tpr[-1]) == (1, 1)
  assert thinned.auc == roc.auc
  for fpr in (0.001, 0.01, 0.1, 0.5):
    expected = tpr_at_fpr(roc, fpr)
    assert tpr_at_fpr(thinned, fpr) == pytest.approx(expected, abs=0.006)
  assert thin(thinned) is thinned


def test_refuses_nan_and_one_class():
  with pytest.raises(ValueError, match='NaN'):
    roc_curve([np.nan, 1], [True, False])
  with pytest.raises(ValueError, match='found 0 and 2'):
    roc_curve([0.5, 1], [False, False])
  with pytest.raises(ValueError, match='found 2 and 0'):
    roc_curve([0.5, 1], [True, True])
