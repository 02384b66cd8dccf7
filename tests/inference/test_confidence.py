"""How sure the network is of a cell, by hand."""

import numpy as np

from cellseg_jax.inference.confidence import (
  combine,
  confidence,
  Totals,
  totals,
)

LABELS = np.array([[1, 1, 0], [2, 0, 2]], np.int32)
FOREGROUND = np.array([[0.9, 0.7, 0.4], [1.0, 0.2, 0.5]])
CENTRE = np.array([[0.2, 0.5, 1.0], [0.8, 0.9, 0.4]])


def test_it_is_the_mean_probability():
  found = confidence(LABELS, {'foreground': FOREGROUND})
  np.testing.assert_allclose(found, [0.8, 0.75])
  assert found.dtype == np.float32


def test_a_cell_without_a_centre_is_less_sure():
  maps = {'foreground': FOREGROUND, 'centre': CENTRE, 'distance': 0 * CENTRE}
  np.testing.assert_allclose(confidence(LABELS, maps), [0.4, 0.6])


def test_no_cell_and_a_label_without_pixels():
  maps = {'foreground': FOREGROUND, 'centre': CENTRE}
  assert confidence(0 * LABELS, maps).shape == (0,)
  np.testing.assert_allclose(confidence(2 * LABELS, maps), [0, 0.4, 0, 0.6])


def test_the_order_of_the_pixels_does_not_matter():
  random = np.random.default_rng(0)
  labels = random.integers(0, 4, 100_000).astype(np.int32)
  maps = {'foreground': random.random(labels.size, np.float32)}
  expected = totals(labels, maps, 3)
  order = random.permutation(labels.size)
  shuffled = totals(labels[order], {'foreground': maps['foreground'][order]}, 3)
  np.testing.assert_array_equal(shuffled, expected)
  # As in blocks: each its own totals, added up.
  parts = [
    totals(labels[i::7], {'foreground': maps['foreground'][i::7]}, 3)
    for i in range(7)
  ]
  gathered = Totals(*map(np.concatenate, zip(*parts, strict=True)))
  whole = combine(gathered, np.tile(np.arange(3), 7), 3)
  np.testing.assert_array_equal(whole, expected)
