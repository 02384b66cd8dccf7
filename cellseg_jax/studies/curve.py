"""A curve through the scores of runs on more and more images."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from scipy import optimize

SCORE = 'mean_f1'
# Of a, b and c in a - b n^-c.
_LOWEST, _HIGHEST = (0.0, 0.0, 0.05), (1.0, 1.0, 4.0)


def describe(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns the points, the fit and the gain of runs; see `learning_curve`."""
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
  """Fits score = a - b n^-c by least squares.

  The form of learning curves of Viering and Loog, IEEE TPAMI 2022 ("the shape
  of learning curves"), with three parameters.

  Args:
    runs: `images` and the score of each; of at least three numbers of images.

  Returns:
    a, b and c; a and b are 0 to 1.
  """
  numbers = np.array([run['images'] for run in runs], float)
  scores = np.array([run[SCORE] for run in runs])

  def residuals(parameters: np.ndarray) -> np.ndarray:
    return _curve(parameters, numbers) - scores

  start = (min(scores.max() + 0.01, 0.99), 0.2, 1.0)
  found = optimize.least_squares(residuals, start, bounds=(_LOWEST, _HIGHEST))
  return dict(zip('abc', map(float, found.x), strict=True))


def predicted(fitted: Mapping[str, float], number: float) -> float:
  """Returns the fitted score of a number of images."""
  return float(_curve([fitted[name] for name in 'abc'], np.array(number)))


def one_more(runs: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
  """Returns what one more image than the most should bring, by the fit.

  Returns:
    `from` and `to`, numbers of images, and `gain`. With several seeds `lowest`
    and `highest`, the gains of the curves fitted to each seed alone.
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
