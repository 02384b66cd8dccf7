"""The Pool: labelled images as training samples them."""

import numpy as np
import pytest
from tiny_sets import cells

from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.images import normalize, targets
from cellseg_jax.serialization import replace


def labelled(seed=0, shape=(60, 80), channels=1):
  image, labels = cells(seed, shape)
  if channels > 1:
    image = np.stack([image * (i + 1) for i in range(channels)], -1)
  valid = np.ones(shape, bool)
  valid[:5] = False
  return LabelledImage(str(seed), image, labels.astype(np.int32), valid)


def test_images_lie_at_the_origin_and_padding_weighs_nothing():
  images = [labelled(0, (60, 40)), labelled(1, (40, 80))]
  pool = build_pool(images, Config())
  assert pool.pixels.shape == (2, 60, 80, 3)
  assert pool.pixels.dtype == np.float32
  np.testing.assert_array_equal(pool.sizes, [[60, 40], [40, 80]])
  for image, pixels in zip(images, np.asarray(pool.pixels), strict=True):
    height, width = image.labels.shape
    foreground, weight = targets.targets_and_weight(
      image.labels, image.valid, ('foreground',), Config().targets
    )
    raw = image.image[..., None].astype(np.float32)
    expected = np.dstack(
      [normalize.normalize(raw, Config().intensity), foreground, weight]
    )
    np.testing.assert_allclose(pixels[:height, :width], expected, atol=1e-6)
    assert (pixels[height:] == 0).all()
    assert (pixels[:, width:] == 0).all()
    assert (pixels[:5, :, -1] == 0).all()


def test_each_image_is_chosen_in_proportion_to_its_area():
  pool = build_pool([labelled(0, (60, 40)), labelled(1, (40, 80))], Config())
  np.testing.assert_allclose(pool.bounds, [3 / 7, 1])


def test_half_resolution():
  config = replace(Config(), data={'resample': 0.5})
  pool = build_pool([labelled(0, (60, 41)), labelled(1, (33, 80))], config)
  np.testing.assert_array_equal(pool.sizes, [[30, 20], [16, 40]])
  assert pool.pixels.shape == (2, 30, 40, 3)
  # Both are resampled alike: cells are where the image is bright.
  image, foreground, weight = np.moveaxis(np.asarray(pool.pixels[0]), -1, 0)
  assert set(np.unique(foreground)) == {0, 1}
  assert set(np.unique(weight)) == {0, 1, 5}
  inside = image[foreground == 1].mean()
  outside = image[:, :20][foreground[:, :20] == 0].mean()
  assert inside - outside > 0.5


@pytest.mark.parametrize('channels', [2, 3])
def test_several_channels(channels):
  config = replace(Config(), data={'channels': channels})
  pool = build_pool([labelled(channels=channels)], config)
  assert pool.pixels.shape == (1, 60, 80, channels + 2)
  single = build_pool([labelled()], Config())
  # Channels that differ by a factor are equal after normalisation.
  np.testing.assert_allclose(
    pool.pixels[..., :1], single.pixels[..., :1], atol=1e-5
  )
  np.testing.assert_array_equal(pool.pixels[..., -2:], single.pixels[..., -2:])
