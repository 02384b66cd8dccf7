"""Suspects of label images, predictions and losses that are made up."""

import numpy as np

from cellseg_jax.studies.suspects import measure, rank, regions, without_label

SHAPE = (40, 60)


def disc(row, column, radius=6):
  y, x = np.indices(SHAPE)
  return np.hypot(y - row, x - column) < radius


def scene():
  """Labels 1 and 4, predictions 1, 2 and 3; nobody labelled the third."""
  labels = np.zeros(SHAPE, np.int32)
  labels[disc(12, 12)], labels[disc(12, 25)] = 1, 4
  predicted = np.zeros(SHAPE, np.int32)
  for value, column in enumerate((12, 25, 40), 1):
    predicted[disc(12, column)] = value
  return labels, predicted


def find_suspects(name, labels, predicted, loss, weight, margin=3):
  found = regions(labels, predicted, margin)
  return measure(name, found, loss, weight, np.arange(len(found)))


def by_cell(suspects):
  return {(one.kind, one.value): one for one in suspects}


def test_cells_and_predictions_without_a_label_are_measured_together():
  labels, predicted = scene()
  loss = np.zeros(SHAPE)
  loss[labels == 1], loss[labels == 4], loss[predicted == 3] = 0.2, 0.1, 0.9
  found = find_suspects('a', labels, predicted, loss, np.ones(SHAPE), margin=0)
  assert [(one.kind, one.value, round(one.mean_loss, 9)) for one in found] == [
    ('label', 1, 0.2),
    ('label', 4, 0.1),
    ('unlabelled', 3, 0.9),
  ]
  assert all(one.image == 'a' for one in found)
  last = by_cell(found)['unlabelled', 3]
  assert (last.row, last.column) == (12, 40)
  assert last.area == disc(12, 40).sum()


def test_the_one_that_costs_the_most_in_all_comes_first():
  labels, predicted = scene()
  labels[disc(25, 12, 12)] = 1  # Large, and wrong by a little everywhere.
  loss = np.where(labels == 1, 0.2, np.where(predicted == 3, 0.5, 0.1))
  found = rank(
    find_suspects('a', labels, predicted, loss, np.ones(SHAPE), margin=0)
  )
  assert [one.value for one in found] == [1, 3, 4]
  areas = [one.area for one in found]
  np.testing.assert_allclose(
    [one.loss for one in found], np.multiply(areas, [0.2, 0.5, 0.1])
  )


def test_the_mean_is_weighted_and_takes_the_margin_in():
  labels, predicted = scene()
  loss, weight = np.zeros(SHAPE), np.ones(SHAPE)
  loss[disc(12, 12, 9)] = 1.0  # Its ring, of 3 pixels, too.
  loss[disc(12, 12)] = 0.0
  weight[labels == 1] = 3.0
  found = find_suspects('a', labels, predicted, loss, weight)
  ring = by_cell(found)['label', 1].mean_loss
  cell = labels == 1
  near = np.sqrt(
    ((np.argwhere(~cell)[:, None] - np.argwhere(cell)) ** 2).sum(-1).min(1)
  )
  around = np.argwhere(~cell)[near <= 3]
  expected = loss[tuple(around.T)].sum() / (3 * cell.sum() + len(around))
  np.testing.assert_allclose(ring, expected)


def test_an_unlabelled_cell_does_not_count_for_its_neighbour():
  labels, predicted = scene()
  predicted[disc(12, 36)] = 3  # Close to the label in column 25.
  predicted[labels > 0] = np.where(labels == 1, 1, 2)[labels > 0]
  loss = np.where((predicted == 3) & (labels == 0), 1.0, 0.0)
  found = by_cell(
    find_suspects('a', labels, predicted, loss, np.ones(SHAPE), margin=5)
  )
  assert found['label', 4].loss == 0
  assert found['unlabelled', 3].mean_loss > 0.3


def test_pixels_that_nobody_labelled_have_no_say():
  labels, predicted = scene()
  weight = np.ones(SHAPE)
  weight[:, 30:] = 0
  found = by_cell(find_suspects('a', labels, predicted, np.ones(SHAPE), weight))
  assert set(found) == {('label', 1), ('label', 4)}


def test_a_prediction_half_covered_has_its_label():
  labels = np.zeros((1, 8), np.int32)
  predicted = np.zeros((1, 8), np.int32)
  labels[0, :2] = 7
  predicted[0, :4], predicted[0, 5:] = 1, 2
  assert without_label(labels, predicted).tolist() == [2]
  predicted[0, 4] = 1
  assert without_label(labels, predicted).tolist() == [1, 2]
  assert without_label(labels, np.zeros_like(labels)).size == 0
