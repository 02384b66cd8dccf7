"""Numbers of blocks, read as numbers of the image."""

import numpy as np
import pytest

from cellseg_jax.inference.blocks import cut, read_framed
from cellseg_jax.inference.numbered import Numbered


@pytest.mark.parametrize('block', [(4, 5), (11, 3), (20, 20), (1, 1)])
def test_negative_pixels_read_as_numbers_of_the_image(block):
  random = np.random.default_rng(0)
  shape = (11, 13)
  expected = random.integers(0, 3, shape).astype(np.int32)  # Stay as they are.
  kept = expected.copy()
  offsets = []
  for number, box in enumerate(cut(shape, block)):
    offsets.append(100 * number)
    own = random.integers(0, 2, box.shape, bool)
    kept[box.slices][own] = -7
    expected[box.slices][own] = 100 * number + 7
  numbered = Numbered(kept, block, offsets)
  before = kept.copy()
  assert numbered.shape == shape
  np.testing.assert_array_equal(numbered[:, :], expected)
  np.testing.assert_array_equal(numbered[3:9, 2:12], expected[3:9, 2:12])
  for box in cut(shape, (3, 4)):
    np.testing.assert_array_equal(
      read_framed(numbered, box, 1), read_framed(expected, box, 1)
    )
  np.testing.assert_array_equal(kept, before)
