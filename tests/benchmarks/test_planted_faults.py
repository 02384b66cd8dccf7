"""Faults planted in labels that are made up, and their ranks."""

import numpy as np
import pytest

from benchmarks import planted_faults
from benchmarks.planted_faults import Fault


def grid():
  """Squares of 10 pixels; those of a pair of columns touch."""
  labels = np.zeros((110, 150), np.int32)
  value = 0
  for row in range(5, 95, 18):
    for column in range(5, 130, 28):
      value += 2
      labels[row : row + 10, column : column + 10] = value
      labels[row : row + 10, column + 10 : column + 20] = value + 1
      value += 1
  return labels


def test_so_many_of_each_kind_are_planted_where_predictions_agree():
  labels = {'a': grid(), 'b': grid()}
  predicted = {'a': grid(), 'b': np.where(grid() > 20, grid(), 0)}
  planted, faults = planted_faults.plant(labels, predicted, seed=3, each=4)
  kinds = [fault.kind for fault in faults]
  assert [kinds.count(kind) for kind in planted_faults.KINDS] == [4, 4, 4]
  assert not [f for f in faults if f.image == 'b' and f.value <= 20]
  assert len({(f.image, f.value) for f in faults}) == 12
  for fault in faults:
    before = labels[fault.image] == fault.value
    after = planted[fault.image] == fault.value
    if fault.kind == 'merged':
      other = np.unique(labels[fault.image][after & ~before])
      assert other.size == 1
      assert (after == before | (labels[fault.image] == other[0])).all()
    elif fault.kind == 'deleted':
      assert not after.any()
    else:
      shift = np.argwhere(after).mean(0) - np.argwhere(before).mean(0)
      expected = 2 * np.sqrt(100 / np.pi) / 3
      assert np.hypot(*shift) == pytest.approx(expected, abs=0.8)
      assert after.sum() >= 90
  touched = sum((planted[n] != labels[n]).any() for n in 'ab')
  assert touched == 2
  again = planted_faults.plant(labels, predicted, seed=3, each=4)[1]
  assert again == faults


def test_too_few_cells_are_refused():
  labels = {'a': grid()}
  with pytest.raises(ValueError, match='only 0 of 4 cells could be merged'):
    planted_faults.plant(labels, {'a': np.zeros_like(grid())}, 0, each=4)


def test_a_fault_has_the_rank_of_its_label_or_of_its_place():
  labels = {'a': grid(), 'b': grid()}
  row, column = np.argwhere(grid() == 5).mean(0)
  faults = [
    Fault('a', 'merged', 2, 0, 0),
    Fault('a', 'deleted', 5, row, column),
    Fault('b', 'shifted', 5, row, column),
  ]

  def suspect(rank, image, kind, value, where=(0.0, 0.0)):
    return {
      'rank': rank,
      'image': image,
      'kind': kind,
      'value': value,
      'row': where[0],
      'column': where[1],
    }

  suspects = [
    suspect(1, 'b', 'label', 2),
    suspect(2, 'a', 'unlabelled', 2),
    suspect(3, 'a', 'label', 8, (row, column)),
    suspect(4, 'a', 'label', 2),
    suspect(5, 'a', 'unlabelled', 1, (row + 1, column)),
  ]
  found = planted_faults.ranks(faults, suspects, labels, radius=0)
  assert found == [4, 5, None]
