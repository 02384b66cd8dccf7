"""Outlines: as pixels by hand, as polygons against Shapely."""

from label_scenes import SCENES
import numpy as np
import pytest
import shapely

from cellseg_jax.images import outlines


def test_boundary_pixels_have_a_side_on_something_else():
  labels = np.zeros((7, 9), np.int32)
  labels[1:6, 1:5] = 7
  labels[1:6, 5:] = 3
  expected = labels > 0
  expected[2:5, 2:4] = False
  expected[2:5, 6:] = False  # The border of the image is no outline.
  np.testing.assert_array_equal(outlines.boundary(labels), expected)


def test_corners_are_those_of_pixels():
  labels = np.zeros((5, 6), np.uint16)
  labels[1:3, 2:5] = 9
  ((ring,),) = outlines.polygons(labels)[9]
  assert ring.tolist() == [[2, 1], [5, 1], [5, 3], [2, 3]]


def test_a_ring_has_a_hole():
  labels = np.full((3, 3), 4)
  labels[1, 1] = 0
  ((outer, hole),) = outlines.polygons(labels)[4]
  assert sorted(outer.tolist()) == [[0, 0], [0, 3], [3, 0], [3, 3]]
  assert sorted(hole.tolist()) == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_pieces_that_meet_at_a_corner_are_apart():
  (one, other) = outlines.polygons(np.eye(2, dtype=int))[1]
  assert len(one) == len(other) == 1


@pytest.mark.parametrize('name', SCENES)
def test_polygons_are_valid_and_hold_exactly_the_pixels(name):
  labels = SCENES[name]
  found = outlines.polygons(labels)
  assert list(found) == sorted(set(labels.ravel().tolist()) - {0})
  y, x = np.indices(labels.shape) + 0.5
  for label, polygons in found.items():
    shapes = [shapely.Polygon(outer, holes) for outer, *holes in polygons]
    assert all(shape.is_valid for shape in shapes)
    assert all(shape.exterior.is_ccw for shape in shapes)
    assert not any(hole.is_ccw for shape in shapes for hole in shape.interiors)
    cell = shapely.MultiPolygon(shapes)
    assert cell.is_valid
    assert cell.area == (labels == label).sum()
    inside = shapely.contains_xy(cell, x, y)
    np.testing.assert_array_equal(inside, labels == label)


def test_no_corner_lies_within_a_straight_line():
  for polygons in outlines.polygons(SCENES['noise']).values():
    for ring in (ring for polygon in polygons for ring in polygon):
      steps = np.sign(np.diff(ring, axis=0, append=ring[:1]))
      turns = np.abs(steps - np.roll(steps, 1, axis=0)).sum(axis=1)
      assert (turns == 2).all()


def test_no_cell_and_nothing_but_one_cell():
  assert outlines.polygons(np.zeros((4, 5), int)) == {}
  ((ring,),) = outlines.polygons(np.full((1, 1), 6))[6]
  assert len(ring) == 4
