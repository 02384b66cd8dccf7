"""Cell matching, by hand and against the independent scorer."""

import numpy as np
import pytest

from cellseg_jax.evaluation import matching


def strip(*runs):
  """A label image of one row from (value, length) pairs."""
  values, lengths = zip(*runs, strict=True)
  return np.repeat(values, lengths)[None]


def random_labels(seed, shape=(40, 50), cells=12):
  random = np.random.default_rng(seed)
  points = random.integers(0, shape, (cells, 2))
  grid = np.stack(np.indices(shape), -1)[:, :, None]
  distance = np.linalg.norm(grid - points, axis=-1)
  return np.where(distance.min(-1) < 6, distance.argmin(-1) + 1, 0)


def relabelled(labels, seed=0):
  """The same cells under large values in another order."""
  random = np.random.default_rng(seed)
  values = random.choice(2**31, labels.max() + 1, replace=False).astype(
    np.uint32
  )
  values[0] = 0
  return values[labels]


def as_tuple(counts):
  return (
    *counts.matched.tolist(),
    counts.true_cells,
    counts.predicted_cells,
    counts.shared_pixels,
    counts.cell_pixels,
  )


def test_overlap_table_by_hand():
  true = strip((0, 2), (7, 4), (2**31, 3), (0, 1))
  predicted = strip((5, 3), (9, 5), (0, 2))
  table = matching.overlap_table(true, predicted)
  assert table.true_labels.tolist() == [7, 2**31]
  assert table.predicted_labels.tolist() == [5, 9]
  assert table.true_areas.tolist() == [4, 3]
  assert table.predicted_areas.tolist() == [3, 5]
  pairs = zip(table.true_index, table.predicted_index, strict=True)
  assert list(pairs) == [(0, 0), (0, 1), (1, 1)]
  assert table.shared.tolist() == [1, 3, 2]
  np.testing.assert_allclose(table.iou, [1 / 6, 3 / 6, 2 / 6])


def test_an_iou_of_exactly_one_half_is_no_match():
  true = strip((1, 4), (0, 2))
  half = matching.match(true, strip((0, 1), (1, 5)))  # 3 pixels of 6.
  more = matching.match(true, strip((0, 1), (1, 4), (0, 1)))  # 3 of 5.
  assert matching.f1(half)[0.5] == 0
  assert matching.f1(more)[0.55] == 1
  assert matching.f1(more)[0.6] == 0


def test_f1_and_dice_by_hand():
  true = strip((1, 10), (2, 10), (0, 10))
  predicted = strip((1, 10), (3, 7), (0, 3), (4, 10))
  counts = matching.match(true, predicted)
  scores = matching.f1(counts)
  assert list(scores) == [0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95]
  assert scores[0.65] == pytest.approx(2 * 2 / 5)
  assert scores[0.7] == pytest.approx(2 * 1 / 5)
  assert matching.dice(counts) == pytest.approx(2 * 17 / (20 + 27))


def test_equal_label_images_are_perfect():
  labels = random_labels(0)
  counts = matching.match(labels, relabelled(labels))
  assert set(matching.f1(counts).values()) == {1.0}
  assert matching.dice(counts) == 1


@pytest.mark.parametrize('seed', range(3))
def test_label_values_do_not_matter(seed):
  true, predicted = random_labels(seed), random_labels(seed + 10)
  plain = matching.match(true, predicted)
  other = matching.match(relabelled(true, 1), relabelled(predicted, 2))
  assert as_tuple(other) == as_tuple(plain)


def test_swapping_the_sides_changes_no_score():
  true, predicted = random_labels(1), np.roll(random_labels(1), 2, 0)
  there, back = (
    matching.match(true, predicted),
    matching.match(predicted, true),
  )
  assert matching.f1(there) == matching.f1(back)
  assert matching.dice(there) == matching.dice(back)


def test_counts_add_up_over_images():
  pairs = [(random_labels(k), np.roll(random_labels(k), 1, 1)) for k in (3, 4)]
  pooled = matching.match(*pairs[0]) + matching.match(*pairs[1])
  side_by_side = matching.match(
    np.hstack((pairs[0][0], np.where(pairs[1][0], pairs[1][0] + 100, 0))),
    np.hstack((pairs[0][1], np.where(pairs[1][1], pairs[1][1] + 100, 0))),
  )
  assert as_tuple(pooled) == as_tuple(side_by_side)


def test_invalid_pixels_count_for_neither_side():
  true, predicted = random_labels(5), random_labels(6)
  valid = np.zeros(true.shape, bool)
  valid[:, :25] = True
  # No cell lies on both sides.
  true[:, 24:26], predicted[:, 24:26] = 0, 0
  true[:, 26:] += 100 * (true[:, 26:] > 0)
  predicted[:, 26:] += 100 * (predicted[:, 26:] > 0)
  masked = matching.match(true, predicted, valid)
  cut = matching.match(true[:, :25], predicted[:, :25])
  assert as_tuple(masked) == as_tuple(cut)


def test_a_found_cell_of_which_most_is_not_valid_is_no_extra_one():
  true, predicted = np.zeros((2, 20, 40), int)
  valid = np.ones(true.shape, bool)
  valid[:, 20:] = False
  predicted[2:8, 17:25] = 1  # 3 of 8 columns are valid: nobody labelled it.
  predicted[12:18, 15:22] = 2  # 5 of 7: an extra cell.
  left, right = matching.scored(true, predicted, valid)
  assert not left.any()
  assert np.unique(right).tolist() == [0, 2]
  assert (right == 2).sum() == 6 * 5
  counts = matching.match(true, predicted, valid)
  assert counts.predicted_cells == 1
  assert counts.cell_pixels == 6 * 5
  # One that matches what is labelled counts, wherever the rest of it lies.
  true[2:8, 17:20] = 4
  counts = matching.match(true, predicted, valid)
  assert counts.predicted_cells == 2
  assert counts.matched[0] == 1


def test_no_cells():
  empty, full = np.zeros((4, 4), int), np.ones((4, 4), int)
  assert set(matching.f1(matching.match(empty, empty)).values()) == {0.0}
  counts = matching.match(full, empty)
  assert (counts.true_cells, counts.predicted_cells) == (1, 0)
  assert matching.dice(counts) == 0


def test_refuses_what_is_no_label_image():
  labels = np.ones((3, 3), int)
  with pytest.raises(ValueError, match='differ in shape'):
    matching.match(labels, labels[:2])
  with pytest.raises(ValueError, match='integers'):
    matching.match(labels, labels / 2)
  with pytest.raises(ValueError, match='-1'):
    matching.match(labels, -labels)
