"""Fits a learning curve to the scores of runs on different numbers of images.

`learning_curve` makes the runs; this module evaluates their scores.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

SCORE = 'mean_f1'
# Bounds of a, b and c in a - b n^-c.
_LOWEST, _HIGHEST = (0.0, 0.0, 0.05), (1.0, 1.0, 4.0)


def describe(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Summarises the scores of runs.

  Args:
    runs: Number of `images`, `seed` and score of each run.

  Returns:
    `points`, the mean, lowest and highest score of each number of images;
    `fit`, as the function `fit` returns it; and `one_more`, as the function
    `one_more` returns it. The last two are None for fewer than three different
    numbers of images.
  """
  numbers = sorted({run['images'] for run in runs})
  points = []
  for number in numbers:
    own = [run[SCORE] for run in runs if run['images'] == number]
    points.append(
      {
        'images': number,
        'mean': float(np.mean(own)),
        'lowest': min(own),
        'highest': max(own),
      }
    )
  if len(numbers) < 3:
    return {'points': points, 'fit': None, 'one_more': None}
  return {'points': points, 'fit': fit(runs), 'one_more': one_more(runs)}


def fit(runs: Sequence[Mapping[str, Any]]) -> dict[str, float]:
  """Fits score = a - b n^-c by least squares, where n is the number of images.

  This is the three-parameter form of learning curves in Viering and Loog, IEEE
  TPAMI 2022 ("the shape of learning curves").

  Args:
    runs: Number of `images` and score of each run, with at least three
      different numbers of images.

  Returns:
    a, b and c by name; a and b are 0 to 1, c is 0.05 to 4.
  """
  numbers = np.array([run['images'] for run in runs], float)
  scores = np.array([run[SCORE] for run in runs])

  def residuals(parameters: np.ndarray) -> np.ndarray:
    return _curve(parameters, numbers) - scores

  start = (min(scores.max() + 0.01, 0.99), 0.2, 1.0)
  found = optimize.least_squares(residuals, start, bounds=(_LOWEST, _HIGHEST))
  return dict(zip('abc', map(float, found.x), strict=True))


def predicted(fitted: Mapping[str, float], number: float) -> float:
  """Returns the score that a fit predicts for a number of images."""
  return float(_curve([fitted[name] for name in 'abc'], np.array(number)))


def one_more(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Predicts the gain in score from one image more than the runs had at most.

  Args:
    runs: Number of `images`, `seed` and score of each run.

  Returns:
    `from` and `to`, the numbers of images, and `gain`, by the curve fitted to
    all runs. With several seeds, also `lowest` and `highest`, the extremes of
    the gains by curves fitted to each seed alone.
  """
  most = max(run['images'] for run in runs)

  def gain(some: Sequence[Mapping[str, Any]]) -> float:
    fitted = fit(some)
    return predicted(fitted, most + 1) - predicted(fitted, most)

  report = {'from': most, 'to': most + 1, 'gain': gain(runs)}
  seeds = sorted({run['seed'] for run in runs})
  if len(seeds) > 1:
    gains = [gain([run for run in runs if run['seed'] == s]) for s in seeds]
    report |= {'lowest': min(gains), 'highest': max(gains)}
  return report


def _curve(
  parameters: Sequence[float] | np.ndarray, numbers: np.ndarray
) -> np.ndarray:
  a, b, c = parameters
  return a - b * numbers**-c
