"""Maps of tiles against maps of the whole."""

import jax.numpy as jnp
import numpy as np
import pytest
import quick
from tiny_networks import keep_few_blocks, random_variables, use_squares

from cellseg_jax.config import Config, map_names
from cellseg_jax.datasets.simulated import simulate_colony
from cellseg_jax.images import normalize
from cellseg_jax.inference import predict_large as large
from cellseg_jax.inference.blocks import Box
from cellseg_jax.inference.ensemble import ensemble
from cellseg_jax.inference.predict import Model, predict_maps
from cellseg_jax.inference.predict_large import ALL_TURNS, predict_large, Turn
from cellseg_jax.serialization import replace

TILE_MAPS = quick.jit(large._tile_maps.__wrapped__)
MAPS = 'foreground,distance,centre'


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
  monkeypatch.setattr(large, '_tile_maps', TILE_MAPS)


@pytest.fixture
def _squares(monkeypatch):
  use_squares(monkeypatch)


squares = pytest.mark.usefixtures('_squares')


def squares_model(slope=0.4, **parts):
  params = {'slope': jnp.float32(slope), 'offset': jnp.float32(-0.25)}
  return Model({'params': params}, {}, replace(Config(), **parts))


def noise(shape):
  """Noise of single pixels on patches of 23 pixels."""
  random = np.random.default_rng(0)
  patches = random.integers(0, 900, (80, 80, *shape[2:]))
  patches = patches.repeat(23, 0).repeat(23, 1)[: shape[0], : shape[1]]
  return (patches + random.integers(0, 300, shape)).astype(np.uint16)


def tiled(model, image, *, tile, overlap):
  maps = {
    name: np.zeros(image.shape[:2], np.float32)
    for name in map_names(model.config.model)
  }
  shares = []
  predict_large(
    model, image, maps, tile=tile, overlap=overlap, progress=shares.append
  )
  assert (np.diff(shares) > 0).all()
  assert shares[-1] == 1
  return maps, len(shares)


def whole(model, image):
  maps = quick.jit(predict_maps.__wrapped__)(model, image)
  return {name: np.asarray(values) for name, values in maps.items()}


def error(one, other):
  return max(np.abs(one[name] - other[name]).max() for name in one)


@squares
@pytest.mark.parametrize(
  ('factor', 'shape', 'turns', 'tiles'),
  [
    (1.0, (705, 650), False, 4),
    (1.0, (150, 650), True, 2),
    (0.7, (31, 1509), False, 4),
    (1.4, (500, 5), False, 2),
    (1.0, (300, 290), False, 1),
  ],
)
def test_maps_are_those_of_the_whole_within_sight(factor, shape, turns, tiles):
  model = squares_model(data={'resample': factor}, decoding={'turns': turns})
  image = noise(shape)
  # A quarter of the overlap is two squares: what counts sees all that it would
  # see of the whole.
  found, count = tiled(model, image, tile=512, overlap=256)
  expected = whole(model, image)
  assert expected['foreground'].std() > 0.02
  assert error(found, expected) < 1e-4
  assert count == tiles * (8 if turns else 1)


def test_a_network_gives_the_maps_of_the_whole(monkeypatch):
  keep_few_blocks(monkeypatch)
  model = {'width': 0.05, 'head': 'skips', 'maps': MAPS}
  config = replace(Config(), model=model)
  model = Model(random_variables(config.model), {}, config)
  image = simulate_colony(3)[0][:, 350:]
  image = np.concatenate([image[:, :60], image[:466, 100:160]])
  expected = whole(model, image)
  # This one, with random weights, sees about 160 pixels far.
  found, count = tiled(model, image, tile=1280, overlap=640)
  assert count == 2
  assert min(values.std() for values in expected.values()) > 0.05
  assert error(found, expected) < 5e-4


@squares
def test_several_channels_and_several_models():
  parts = {'data': {'channels': 2}}
  model = ensemble([squares_model(0.2, **parts), squares_model(0.6, **parts)])
  image = noise((330, 570, 2))
  found, count = tiled(model, image, tile=512, overlap=256)
  assert count == 2
  assert error(found, whole(model, image)) < 1e-5


@pytest.mark.parametrize('turn', ALL_TURNS)
def test_a_turned_block_is_a_block_of_the_turned_image(turn):
  image = np.arange(7 * 5 * 2).reshape(7, 5, 2)
  turned = turn.forth(image)
  assert turned.shape[:2] == turn.size(image.shape)
  np.testing.assert_array_equal(turn.back(turned), image)
  box = Box(1, 4, 2, 5)
  place = turn.box(box, image.shape)
  np.testing.assert_array_equal(
    turn.forth(image[place.slices]), turned[box.slices]
  )


def test_the_turns_are_eight():
  image = np.arange(12).reshape(3, 4, 1)
  assert len({turn.forth(image).tobytes() for turn in ALL_TURNS}) == 8


@pytest.mark.parametrize('shape', [(1, 1), (1, 700), (400, 297)])
@pytest.mark.parametrize(
  ('block', 'turn'), [(13, Turn()), (64, Turn(True, 1, -1))]
)
def test_normalisation_is_that_of_the_whole(monkeypatch, shape, block, turn):
  monkeypatch.setattr(large, '_BLOCK', block)
  rng = np.random.default_rng(0)
  image = rng.normal(100, 7, (*shape, 2)).astype(np.float32)
  config = {'sample': 300, 'noise_floor': 9.0}
  model = squares_model(data={'channels': 2}, intensity=config)
  found = large.intensity_range(model, image, turn)
  expected = quick.jit(normalize.intensity_range, static_argnums=1)(
    turn.forth(image), model.config.intensity
  )
  np.testing.assert_allclose(found, expected, rtol=1e-6)


@squares
@pytest.mark.parametrize('value', [np.nan, np.inf, 1e300])
def test_what_is_no_number_is_refused_with_its_place(monkeypatch, value):
  monkeypatch.setattr(large, '_BLOCK', 64)
  image = noise((150, 170)).astype(np.float64)
  image[101, 140] = value
  with pytest.raises(ValueError, match='row 101, column 140'):
    tiled(squares_model(), image, tile=96, overlap=32)
