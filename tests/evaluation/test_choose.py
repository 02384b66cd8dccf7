"""The choice of a decoder's settings on labelled images."""

import numpy as np
import pytest
from scipy import ndimage

from cellseg_jax.config import DecodingConfig
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation.choose import choose_on_others, choose_settings
from cellseg_jax.evaluation.evaluate import evaluate
from cellseg_jax.images.shape_maps import shape_map
from cellseg_jax.inference.decode import DECODERS

COMPONENTS = DecodingConfig(min_area=10, rim=0)
ASCENT = DecodingConfig(
  method='ascent', objective='mean_f1', min_area=10, rim=0
)


def labelled(seed, cells=6):
  """An image of overlapping discs and the maps of a fair network."""
  random = np.random.default_rng(seed)
  labels = np.zeros((90, 110), np.int32)
  y, x = np.indices(labels.shape)
  for cell in range(1, cells + 1):
    row, column = random.integers(10, (80, 100))
    labels[(y - row) ** 2 + (x - column) ** 2 < 80] = cell
  maps = {'foreground': (labels > 0).astype(np.float32)}
  for name in ('distance', 'centre'):
    maps[name] = shape_map(labels, name)
  for name in maps:
    noise = ndimage.gaussian_filter(random.standard_normal(labels.shape), 1)
    blurred = ndimage.gaussian_filter(maps[name], 1.5)
    maps[name] = np.clip(blurred + 0.4 * noise, 0, 1).astype(np.float32)
  image = LabelledImage(str(seed), labels, labels, labels >= 0)
  return maps, image


@pytest.fixture(name='pairs')
def fixture_pairs():
  return tuple(zip(*map(labelled, range(3)), strict=True))


def test_the_chosen_threshold_has_the_highest_f1(pairs):
  chosen, trials = choose_settings(*pairs, COMPONENTS)
  scores = {
    k / 20: evaluate(*pairs, COMPONENTS, {'threshold': k / 20})['f1']['0.5']
    for k in range(1, 20)
  }
  assert scores[chosen['threshold']] == max(scores.values())
  assert min(scores.values()) < max(scores.values())
  tried = {trial.settings['threshold']: trial.f1 for trial in trials}
  assert tried == scores


def only(probability, image):
  return [{'foreground': probability}], [image]


def test_among_equal_thresholds_the_middle_is_chosen():
  _, image = labelled(0, cells=2)
  sure = (image.labels > 0).astype(np.float32)
  for probability, expected in ((sure, 0.5), (0.3 * sure, 0.25)):
    chosen, _ = choose_settings(*only(probability, image), COMPONENTS)
    assert chosen == {'threshold': expected}


def test_among_equal_f1_the_better_outline_is_chosen():
  _, image = labelled(0, cells=2)
  fringe = ndimage.binary_dilation(image.labels > 0)
  probability = 0.65 * fringe + 0.3 * (image.labels > 0)
  chosen, trials = choose_settings(*only(probability, image), COMPONENTS)
  assert trials[0].f1 == 1
  assert chosen == {'threshold': 0.65}


def test_no_single_change_of_the_chosen_settings_is_better(pairs):
  chosen, trials = choose_settings(*pairs, ASCENT)

  def merit(settings):
    return evaluate(*pairs, ASCENT, settings)['mean_f1']

  best = merit(chosen)
  candidates = DECODERS['ascent'].candidates
  assert best > merit({name: v[0] for name, v in candidates.items()})
  for name, values in candidates.items():
    for value in values:
      assert merit({**chosen, name: value}) <= best
  assert max(trial.mean_f1 for trial in trials) == best


def test_settings_that_are_given_stay(pairs):
  given = DecodingConfig(
    method='ascent', min_area=10, threshold=0.35, centre_share=0.0
  )
  chosen, trials = choose_settings(*pairs, given)
  assert chosen['threshold'] == 0.35
  assert chosen['centre_share'] == 0
  assert {t.settings['threshold'] for t in trials} == {0.35}
  assert len({t.settings['depth'] for t in trials}) > 3


def test_refuses_what_does_not_fit(pairs):
  maps, images = pairs
  with pytest.raises(ValueError, match='2 sets of maps and 3 images'):
    choose_settings(maps[:2], images, COMPONENTS)


@pytest.mark.parametrize('decoding', [COMPONENTS, ASCENT])
def test_settings_for_an_image_are_those_chosen_on_the_others(pairs, decoding):
  maps, images = pairs
  found = choose_on_others(maps, images, decoding)
  for i, settings in enumerate(found):
    others = [j for j in range(len(images)) if j != i]
    expected, _ = choose_settings(
      [maps[j] for j in others], [images[j] for j in others], decoding
    )
    assert settings == expected


def test_one_image_has_no_others(pairs):
  with pytest.raises(ValueError, match='others of one image'):
    choose_on_others(pairs[0][:1], pairs[1][:1], COMPONENTS)
