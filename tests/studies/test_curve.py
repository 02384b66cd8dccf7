"""The curve through scores that are made up."""

import pytest

from cellseg_jax.studies import curve


def runs(numbers, score, seeds=1):
  return [
    {'images': n, 'seed': seed, curve.SCORE: score(n, seed)}
    for n in numbers
    for seed in range(seeds)
  ]


def test_the_fit_finds_the_curve_that_made_the_scores():
  fitted = curve.fit(runs((1, 2, 4, 7), lambda n, _: 0.9 - 0.3 * n**-0.8))
  assert fitted == pytest.approx({'a': 0.9, 'b': 0.3, 'c': 0.8}, abs=1e-3)
  assert curve.predicted(fitted, 8) == pytest.approx(
    0.9 - 0.3 * 8**-0.8, abs=1e-4
  )


def test_one_more_image_brings_the_step_of_the_curve_and_its_spread():
  def score(n, seed):
    return 0.9 - (0.2 + 0.1 * seed) / n

  found = curve.one_more(runs((1, 2, 4), score, seeds=2))
  assert (found['from'], found['to']) == (4, 5)
  assert found['lowest'] == pytest.approx(0.2 / 20, abs=1e-4)
  assert found['highest'] == pytest.approx(0.3 / 20, abs=1e-4)
  assert found['gain'] == pytest.approx(0.25 / 20, abs=1e-3)


def test_scores_that_do_not_grow_promise_nothing():
  found = curve.one_more(runs((1, 2, 4), lambda n, _: 0.8))
  assert found['gain'] == pytest.approx(0, abs=1e-4)


def test_two_numbers_make_no_curve():
  found = curve.describe(runs((1, 2), lambda n, seed: n / 4 + seed / 8, 2))
  assert found['fit'] is found['one_more'] is None
  assert found['points'] == [
    {'images': 1, 'mean': 0.3125, 'lowest': 0.25, 'highest': 0.375},
    {'images': 2, 'mean': 0.5625, 'lowest': 0.5, 'highest': 0.625},
  ]
