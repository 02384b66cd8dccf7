"""Random crops: where each pixel comes from, and what happens to it."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import quick

from cellseg_jax.config import AugmentationConfig
from cellseg_jax.datasets.pool import Pool
from cellseg_jax.training.augment import (
  augment,
  change_intensity,
  sample_coordinates,
)
from cellseg_jax.training.places import crop_keys

SIZE = 16
OFF = {'roll': False, 'flip': False, 'rotate': False}
ALL = {
  'scale': 1.5,
  'elastic': 3.0,
  'elastic_spacing': 8,
  'gain': 1.5,
  'offset': 0.2,
  'gamma': 1.5,
}


def config(**on):
  return AugmentationConfig(**(OFF | on))


def keys(count, seed=0):
  return jax.random.split(jax.random.key(seed), count)


@functools.partial(quick.jit, static_argnums=(1, 2))
def places(keys, config, size):
  """Where crops from the first pixel on are read, (N, S, S, 2)."""
  origin = jnp.array([0, 0])
  draw = jax.vmap(lambda own: sample_coordinates(own, origin, config, size))
  return draw(crop_keys(keys))


@functools.partial(quick.jit, static_argnums=(2, 3))
def draw(keys, pool, config, size=SIZE):
  return augment(keys, pool, config, size)


def make_pool(*images, chances=None, padding=np.nan):
  """A pool of (H, W, C + 2) arrays; reading their padding shows."""
  sizes = np.array([image.shape[:2] for image in images], np.int32)
  height, width = sizes.max(0) + 3
  pixels = np.full(
    (len(images), height, width, images[0].shape[-1]), padding, np.float32
  )
  for place, image in zip(pixels, images, strict=True):
    place[: image.shape[0], : image.shape[1]] = image
  if chances is None:
    chances = np.full(len(images), 1 / len(images))
  channels = pixels.shape[-1] - 2
  return Pool(
    sizes=sizes,
    bounds=np.cumsum(chances, dtype=np.float32),
    cells=NO_CELL,
    pixels=pixels,
    channels=channels,
  )


NO_CELL = np.zeros((1, 3), np.int32)


def numbered(shape=(24, 30)):
  """An image whose pixels are all different, binary targets, weights."""
  rng = np.random.default_rng(0)
  image = np.arange(np.prod(shape)).reshape(shape)
  foreground = rng.integers(0, 2, shape)
  weight = rng.choice([0, 1, 5], shape)
  return np.stack([image, foreground, weight], -1).astype(np.float32)


def crops(batch):
  """The batch as (N, S, S, C + 2), as the pool holds it."""
  return np.concatenate(
    [batch.images, batch.targets, batch.weights[..., None]], -1
  )


def window(image, row, column, size=SIZE):
  """A crop of the image repeated without end."""
  rows = (row + np.arange(size)) % image.shape[0]
  columns = (column + np.arange(size)) % image.shape[1]
  return image[np.ix_(rows, columns)]


def start(crop, image):
  """Where a crop of a numbered image starts."""
  return divmod(int(crop[0, 0, 0]), image.shape[1])


def test_without_changes_a_crop_is_a_window():
  image = numbered()
  found = crops(draw(keys(64), make_pool(image), config()))
  starts = [start(crop, image) for crop in found]
  for crop, (row, column) in zip(found, starts, strict=True):
    np.testing.assert_array_equal(
      crop, image[row : row + SIZE, column : column + SIZE]
    )
  # Every place where it fits, the last included.
  assert {row for row, _ in starts} == set(range(9))
  assert max(column for _, column in starts) == 14


@pytest.mark.parametrize('roll', [False, True])
def test_a_crop_larger_than_its_image_repeats_it(roll):
  image = numbered((10, 12))
  found = crops(draw(keys(8), make_pool(image), config(roll=roll)))
  starts = {start(crop, image) for crop in found}
  for crop in found:
    np.testing.assert_array_equal(crop, window(image, *start(crop, image)))
  assert (starts == {(0, 0)}) != roll


def test_a_rolled_crop_wraps_around():
  image = numbered()
  found = crops(draw(keys(300), make_pool(image), config(roll=True)))
  starts = [start(crop, image) for crop in found]
  for crop, place in zip(found, starts, strict=True):
    np.testing.assert_array_equal(crop, window(image, *place))
  assert {row for row, _ in starts} == set(range(24))
  assert {column for _, column in starts} == set(range(30))


def test_a_flipped_crop_is_one_of_four_mirrors():
  image = numbered((SIZE, SIZE))
  found = crops(draw(keys(64), make_pool(image), config(flip=True)))
  mirrors = [image[::a, ::b] for a in (1, -1) for b in (1, -1)]
  seen = [
    [i for i, mirror in enumerate(mirrors) if np.array_equal(crop, mirror)]
    for crop in found
  ]
  counts = np.bincount(np.concatenate(seen), minlength=4)
  assert counts.sum() == 64
  assert counts.min() >= 6


def test_rotation_turns_about_the_centre_of_the_crop():
  line = np.arange(32) - 15.5
  radius = np.hypot(line[:, None], line)
  image = np.stack([np.exp(-((radius / 8) ** 2)), radius < 7, radius], -1)
  found = crops(draw(keys(8), make_pool(image), config(rotate=True), 32))
  inside = radius < 14
  for crop in found:
    # Linear interpolation flattens a curve of this size by at most 0.01.
    np.testing.assert_allclose(crop[inside, 0], image[inside, 0], atol=0.01)
    assert (crop[..., 1] != image[..., 1])[abs(radius - 7) > 0.8].sum() == 0


def test_rotation_is_by_any_angle():
  place = places(keys(200), config(rotate=True), 8)
  along = np.asarray(place[:, -1, 0] - place[:, 0, 0])
  np.testing.assert_allclose(np.linalg.norm(along, axis=-1), 7, rtol=1e-4)
  angles = np.arctan2(along[:, 1], along[:, 0])
  counts, _ = np.histogram(angles, 8, (-np.pi, np.pi))
  assert counts.min() > 10


def test_targets_are_read_not_mixed():
  image = numbered()
  batch = draw(keys(16), make_pool(image), config(roll=True, rotate=True))
  assert set(np.unique(batch.targets[..., 0])) == {0, 1}
  assert set(np.unique(batch.weights)) == {0, 1, 5}
  assert np.unique(batch.images % 1).size > 100


def test_image_and_targets_move_together():
  rng = np.random.default_rng(1)
  blobs = np.kron(rng.integers(0, 2, (5, 6)), np.ones((6, 6)))
  image = np.stack([blobs, blobs, 1 + 4 * blobs], -1)
  moves = {k: v for k, v in ALL.items() if 'scale' in k or 'elastic' in k}
  batch = draw(
    keys(32),
    make_pool(image),
    config(roll=True, flip=True, rotate=True, **moves),
  )
  pixels = np.asarray(batch.images[..., 0])
  pure = np.minimum(abs(pixels), abs(1 - pixels)) < 1e-5
  assert 0.5 < pure.mean() < 1
  np.testing.assert_array_equal(
    batch.targets[..., 0][pure], pixels[pure].round()
  )
  # Elsewhere the nearest of four pixels has a quarter of the mix at least.
  assert np.abs(batch.targets[..., 0] - pixels).max() <= 0.75 + 1e-5
  np.testing.assert_array_equal(batch.weights, 1 + 4 * batch.targets[..., 0])


def test_padding_is_never_read():
  pool = make_pool(*(numbered(s) for s in ((20, 33), (40, 17), (9, 9))))
  everything = AugmentationConfig(**ALL)
  batch = draw(keys(64), pool, everything)
  assert np.isfinite(crops(batch)).all()
  # And the pool's padding is one that would have shown.
  assert np.isnan(pool.pixels).any(axis=(1, 2, 3)).all()


def test_each_image_wraps_at_its_own_size():
  images = [numbered((20, 33)), numbered((33, 18))]
  images[1][..., 0] += 10000
  found = crops(draw(keys(64), make_pool(*images), config(roll=True)))
  which = (found[:, 0, 0, 0] >= 10000).astype(int)
  assert set(which) == {0, 1}
  for crop, index in zip(found, which, strict=True):
    image = images[index]
    row, column = divmod(int(crop[0, 0, 0]) % 10000, image.shape[1])
    np.testing.assert_array_equal(crop, window(image, row, column))


def test_images_are_drawn_by_their_chances():
  images = [np.full((8, 8, 3), i) for i in range(3)]
  pool = make_pool(*images, chances=[0.2, 0.0, 0.8])
  found = draw(keys(1000), pool, config(), 4).images[:, 0, 0, 0]
  counts = np.bincount(found.astype(int), minlength=3)
  assert counts[1] == 0
  assert abs(counts[0] - 200) < 4 * np.sqrt(1000 * 0.2 * 0.8)


def test_no_key_is_used_twice():
  pool = make_pool(numbered())
  changes = config(**ALL, blur=1.0, noise=0.1, centred=0.5)
  with jax.debug_key_reuse(True):
    jax.jit(augment, static_argnums=(2, 3))(keys(2), pool, changes, SIZE)


def test_a_crop_depends_on_its_own_key_alone():
  pool = make_pool(numbered(), numbered((40, 20)))
  everything = AugmentationConfig(**ALL)
  many = keys(8)
  before = crops(draw(many, pool, everything))
  np.testing.assert_array_equal(crops(draw(many, pool, everything)), before)
  order = np.array([3, 0, 7, 1, 2, 6, 5, 4])
  np.testing.assert_array_equal(
    crops(draw(many[order], pool, everything)), before[order]
  )
  company = jnp.concatenate([many[:4], keys(4, seed=9)])
  after = crops(draw(company, pool, everything))
  np.testing.assert_array_equal(after[:4], before[:4])
  assert all(np.any(after[i] != before[i]) for i in range(4, 8))


@pytest.mark.parametrize('channels', [1, 3])
def test_channels_move_together(channels):
  image = np.repeat(numbered()[..., :1], channels, -1)
  image = np.concatenate([image, numbered()[..., 1:]], -1)
  batch = draw(keys(4), make_pool(image), AugmentationConfig())
  assert batch.images.shape == (4, SIZE, SIZE, channels)
  first = np.asarray(batch.images[..., :1])
  np.testing.assert_array_equal(batch.images, np.repeat(first, channels, -1))


def moved(count, **on):
  """Displacements from an unchanged crop, (count, 64, 64, 2)."""
  grid = np.stack(np.mgrid[:64, :64], -1)
  return np.asarray(places(keys(count), config(**on), 64)) - grid


def test_scale_magnifies_and_shrinks_to_its_factor():
  place = np.asarray(places(keys(400), config(scale=2.0), 9))
  spacing = place[:, 1, 0, 0] - place[:, 0, 0, 0]
  assert spacing.min() == pytest.approx(0.5, abs=0.02)
  assert spacing.max() == pytest.approx(2.0, abs=0.08)
  assert np.median(spacing) == pytest.approx(1, abs=0.1)
  np.testing.assert_allclose(
    place[:, 0, 1, 1] - place[:, 0, 0, 1], spacing, atol=1e-4
  )


def test_elastic_displacement_is_centred_and_smooth():
  field = moved(48, elastic=2.0, elastic_spacing=16)
  assert abs(field.mean()) < 0.15
  assert 0.6 * 2 < field.std() < 1.1 * 2
  # A cubic through nodes 16 pixels apart: no jumps between neighbours.
  slopes = np.abs(np.diff(field, axis=1))
  assert slopes.max() < 1.5
  assert np.median(slopes) > 0.01
  bends = np.abs(np.diff(field, n=2, axis=1))
  assert bends.max() < 0.2
  # Crops are deformed each in its own way.
  assert np.abs(np.corrcoef(field.reshape(48, -1)[:2])[0, 1]) < 0.5


def test_elastic_displacement_is_in_proportion_to_its_strength():
  one, three = (moved(2, elastic=s, elastic_spacing=16) for s in (1.0, 3.0))
  np.testing.assert_allclose(three, 3 * one, atol=1e-4)


def intensities(**on):
  """Pairs of a ramp and what becomes of it, for many keys."""
  ramp = np.linspace(-0.5, 1.5, 41, dtype=np.float32).reshape(-1, 1, 1)
  change = jax.vmap(lambda key: change_intensity(key, ramp, config(**on)))
  return ramp.ravel(), np.asarray(quick.jit(change)(keys(300)))[..., 0, 0]


def test_intensities_stay_when_nothing_is_on():
  ramp, result = intensities()
  np.testing.assert_array_equal(result, np.broadcast_to(ramp, result.shape))


def test_gain_is_one_factor_a_crop_within_bounds():
  ramp, result = intensities(gain=2.0)
  factors = result[:, -1] / ramp[-1]
  np.testing.assert_allclose(result, factors[:, None] * ramp, atol=1e-6)
  assert 0.5 <= factors.min() < 0.52
  assert 1.92 < factors.max() <= 2.0


def test_offset_is_one_shift_a_crop_within_bounds():
  ramp, result = intensities(offset=0.3)
  shifts = result[:, 0] - ramp[0]
  np.testing.assert_allclose(result, ramp + shifts[:, None], atol=1e-6)
  assert -0.3 <= shifts.min() < -0.28
  assert 0.28 < shifts.max() <= 0.3


def test_gamma_bends_positive_values_alone():
  ramp, result = intensities(gamma=3.0)
  bright = ramp > 1e-3
  exponents = np.log(result[:, -1]) / np.log(ramp[-1])
  np.testing.assert_allclose(
    result[:, bright], ramp[bright] ** exponents[:, None], rtol=1e-4
  )
  np.testing.assert_allclose(
    result[:, ~bright], np.tile(ramp[~bright], (300, 1)), atol=1e-6
  )
  assert 1 / 3 - 1e-4 <= exponents.min() < 0.35
  assert 2.85 < exponents.max() <= 3 + 1e-4


def test_centred_crops_have_a_cell_in_their_middle():
  image = numbered((40, 50))
  cells = np.array([[0, 3, 4], [0, 20, 45], [1, 11, 12]], np.int32)
  other = numbered((40, 50))
  other[..., 0] += 10000
  pool = make_pool(image, other).replace(cells=cells)
  found = crops(draw(keys(90), pool, config(roll=True, centred=1.0)))
  middles = found[:, SIZE // 2, SIZE // 2, 0]
  expected = [image[3, 4, 0], image[20, 45, 0], other[11, 12, 0]]
  counts = [int((middles == value).sum()) for value in expected]
  assert sum(counts) == 90
  assert min(counts) > 15
  half = crops(draw(keys(90), pool, config(roll=True, centred=0.5)))
  share = np.isin(half[:, SIZE // 2, SIZE // 2, 0], expected).mean()
  assert 0.3 < share < 0.7


def test_centred_crops_that_may_not_wrap_stay_inside():
  image = numbered((40, 50))
  pool = make_pool(image).replace(cells=np.array([[0, 3, 48]], np.int32))
  found = crops(draw(keys(4), pool, config(centred=1.0)))
  for crop in found:
    np.testing.assert_array_equal(crop, image[:SIZE, 50 - SIZE :])


def changed_image(image, n=64, **changes):
  change = quick.jit(
    jax.vmap(change_intensity, (0, None, None)), static_argnums=2
  )
  return np.asarray(change(keys(n), jnp.float32(image), config(**changes)))


def test_blur_is_a_gaussian_of_random_width():
  point = np.zeros((33, 33, 1))
  point[16, 16] = 1
  found = changed_image(point, blur=2.0)[..., 0]
  np.testing.assert_allclose(found.sum((1, 2)), 1, rtol=1e-5)
  y = np.arange(33) - 16
  deviation = np.sqrt((found.sum(2) * y**2).sum(1))
  assert deviation.min() < 0.5
  assert 1.5 < deviation.max() <= 2
  np.testing.assert_allclose(found, found.transpose(0, 2, 1), atol=1e-6)
  level = np.full((9, 9, 2), 0.7)
  np.testing.assert_allclose(changed_image(level, blur=2.0), 0.7, rtol=1e-5)


def test_noise_grows_with_the_intensity():
  image = np.zeros((64, 64, 1))
  image[32:] = 0.9
  found = changed_image(image, noise=0.2)[..., 0] - image[..., 0]
  dark, bright = found[:, :32].std((1, 2)), found[:, 32:].std((1, 2))
  np.testing.assert_allclose(bright / dark, np.sqrt(10), rtol=0.15)
  assert dark.min() < 0.01
  assert 0.05 < dark.max() < 0.2 * np.sqrt(0.1) * 1.05
  assert abs(found.mean()) < 0.01
