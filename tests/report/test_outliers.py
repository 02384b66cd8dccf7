"""Odd images are found, and no others."""

import numpy as np

from cellseg_jax.report.outliers import Cells, remark


def batch(count=12, cells=40):
  random = np.random.default_rng(0)
  return [
    Cells(
      np.arange(1, cells + 1),
      random.normal(500, 60, cells),
      random.normal(0.8, 0.03, cells),
    )
    for _ in range(count)
  ]


def test_like_images_are_not_remarked():
  for one in remark(batch()):
    assert one == (0.0, (), ())


def test_each_oddity_is_found_where_it_is():
  images = batch()
  images[2] = Cells(*(values[:6] for values in images[2]))
  images[4].areas[7] = 5000
  images[9] = images[9]._replace(confidence=images[9].confidence - 0.3)
  images[10] = Cells(*(np.zeros(0) for _ in range(3)))
  found = remark(images)
  odd = {number for number, one in enumerate(found) if one.score}
  assert odd == {2, 4, 9, 10}
  assert found[2].reasons == ('few cells: 6, where the median is 40',)
  assert found[4].huge == (8,)
  assert '5,000 pixels' in found[4].reasons[0]
  assert 'low confidence: 0.5' in found[9].reasons[0]
  assert found[10].score > found[2].score


def test_a_few_images_are_not_compared_and_none_are_no_fault():
  images = batch(3)
  images[1] = Cells(*(values[:1] for values in images[1]))
  assert all(one.score == 0 for one in remark(images))
  assert remark([]) == []
