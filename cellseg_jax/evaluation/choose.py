"""Choice of a decoder's settings on labelled images."""

from collections.abc import Callable, Iterable, Sequence
import functools
import operator
from typing import NamedTuple

from cellseg_jax.config import DecodingConfig
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation import matching
from cellseg_jax.evaluation.evaluate import check_pairs, match_decoded
from cellseg_jax.inference.decode import (
  DECODERS,
  default_settings,
  fixed_settings,
  Maps,
  Settings,
)


class Trial(NamedTuple):
  """Settings that were tried, and their scores.

  Attributes:
    settings: The decoder's settings by name.
    f1: F1 at IoU 0.5, with the cells of all images pooled.
    mean_f1: Mean F1 over IoU 0.5 to 0.9, likewise.
  """

  settings: dict[str, float]
  f1: float
  mean_f1: float


def choose_settings(
  maps: Sequence[Maps],
  images: Sequence[LabelledImage],
  decoding: DecodingConfig,
) -> tuple[dict[str, float], list[Trial]]:
  """Chooses the settings that maximise the objective on all cells together.

  This is a coordinate search: starting from the first candidate of each
  setting, one setting at a time is varied over its candidates, until no single
  change is an improvement. Of equal candidates the earlier one is chosen.

  Args:
    maps: The maps of every image by name, float (H, W), 0 to 1.
    images: The labelled images, in the same order.
    decoding: The decoder, the objective, and the fixed settings.

  Returns:
    Settings by name, and the trial of every combination that was evaluated.

  Raises:
    ValueError: The numbers or shapes of maps and images differ, or a map holds
      NaN.
  """
  check_pairs(maps, images)

  def count(settings: Settings) -> matching.MatchCounts:
    return _sum(
      match_decoded(one, image, decoding, settings)
      for one, image in zip(maps, images, strict=True)
    )

  return _search(decoding, count)


def choose_on_others(
  maps: Sequence[Maps],
  images: Sequence[LabelledImage],
  decoding: DecodingConfig,
) -> list[dict[str, float]]:
  """Chooses settings for each image on all the other images.

  Thus the labels of an image do not influence how it is decoded.

  Args:
    maps: The maps of at least two images by name, float (H, W), 0 to 1.
    images: The labelled images, in the same order.
    decoding: The decoder, the objective, and the fixed settings.

  Returns:
    Settings by name for each image.

  Raises:
    ValueError: The numbers or shapes of maps and images differ, a map holds
      NaN, or there is only one image.
  """
  check_pairs(maps, images)
  if len(images) < 2:
    raise ValueError('settings cannot be chosen on the others of one image')

  # Searches for different images mostly try the same settings.
  @functools.cache
  def of_image(i: int, key: tuple) -> matching.MatchCounts:
    return match_decoded(maps[i], images[i], decoding, dict(key))

  def on_others(left_out: int) -> dict[str, float]:
    others = [i for i in range(len(images)) if i != left_out]

    def count(settings: Settings) -> matching.MatchCounts:
      return _sum(of_image(i, tuple(settings.items())) for i in others)

    return _search(decoding, count)[0]

  return [on_others(i) for i in range(len(images))]


def _search(
  decoding: DecodingConfig, count: Callable[[Settings], matching.MatchCounts]
) -> tuple[dict[str, float], list[Trial]]:
  """Does the search of `choose_settings`, given the counts of settings."""
  fixed = fixed_settings(decoding)
  candidates = {
    name: values
    for name, values in DECODERS[decoding.method].candidates.items()
    if name not in fixed
  }
  trials: dict[tuple[float, ...], Trial] = {}

  def merit(settings: Settings) -> tuple[float, float]:
    key = tuple(settings.values())
    if key not in trials:
      counts = count(settings)
      trials[key] = Trial(
        dict(settings), matching.f1(counts)[0.5], matching.mean_f1(counts)
      )
    trial = trials[key]
    if decoding.objective == 'f1':
      return trial.f1, trial.mean_f1
    return trial.mean_f1, trial.f1

  best = default_settings(decoding)
  improved = True
  while improved:
    before = merit(best)
    for name, values in candidates.items():
      best = max(({**best, name: value} for value in values), key=merit)
    improved = merit(best) > before
  return best, list(trials.values())


def _sum(counts: Iterable[matching.MatchCounts]) -> matching.MatchCounts:
  return functools.reduce(operator.add, counts)
