"""Large images: any array in and out, bounded memory, errors."""

import tracemalloc

import dask.array
import jax.numpy as jnp
import numpy as np
import pytest
import quick
from tiny_networks import use_a_line
from tiny_sets import cells
import zarr

import cellseg_jax
from cellseg_jax.config import Config, DecodingConfig
from cellseg_jax.inference import blocks, large, predict_large
from cellseg_jax.inference.large import segment_large
from cellseg_jax.inference.on_host import segment_image
from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace

SHAPE = (150, 190)
TILE_MAPS = quick.jit(predict_large._tile_maps.__wrapped__)
SMALL = {'tile': 96, 'overlap': 32, 'block': 40}


@pytest.fixture(autouse=True)
def _line(monkeypatch):
  use_a_line(monkeypatch)
  monkeypatch.setattr(predict_large, '_tile_maps', TILE_MAPS)
  monkeypatch.setattr(predict_large, '_BLOCK', 64)


def model(**parts):
  params = {'slope': jnp.float32(1.5), 'offset': jnp.float32(-0.25)}
  decoding = {'min_area': 5, 'rim': 1}
  config = replace(Config(), **({'decoding': decoding} | parts))
  return Model({'params': params}, {'threshold': jnp.float32(0.6)}, config)


def image(shape=SHAPE):
  return cells(0, shape)[0]


def stored(array, **options):
  result = zarr.create_array({}, data=array, **options)
  assert isinstance(result, zarr.Array)
  return result


class Watched:
  """An array that notes the largest block read or written."""

  def __init__(self, array):
    self.array, self.shape, self.dtype = array, array.shape, array.dtype
    self.largest = 0

  def __getitem__(self, slices):
    block = self.array[slices]
    self.largest = max(self.largest, block.size)
    return block

  def __setitem__(self, slices, block):
    self.largest = max(self.largest, self.array[slices].size)
    self.array[slices] = block


def test_the_public_name():
  assert cellseg_jax.segment_large is segment_large


def test_it_segments_as_the_whole_is_segmented():
  labels, confidence = segment_large(model(), image(), **SMALL)
  expected, certainty, _ = segment_image(model(), image())
  assert expected.max() > 40
  assert labels.dtype == np.int32
  np.testing.assert_array_equal(labels, expected)
  np.testing.assert_allclose(confidence, certainty, rtol=1e-6)


@pytest.mark.parametrize(
  'kind',
  [
    lambda array: dask.array.from_array(array, (50, 60)),
    lambda array: stored(array, chunks=(33, 64)),
    lambda array: array.astype(np.float64),
    lambda array: array[..., None],
  ],
  ids=['dask', 'zarr', 'float64', 'channels'],
)
def test_any_array_gives_the_same(kind):
  expected, certainty = segment_large(model(), image(), **SMALL)
  labels, confidence = segment_large(model(), kind(image()), **SMALL)
  np.testing.assert_array_equal(labels, expected)
  np.testing.assert_array_equal(confidence, certainty)


def test_labels_go_where_they_are_wanted(tmp_path):
  expected, _ = segment_large(model(), image(), **SMALL)
  store = stored(np.zeros(SHAPE, np.uint32), chunks=(64, 64))
  mapped = np.lib.format.open_memmap(
    tmp_path / 'labels.npy', 'w+', np.uint16, SHAPE
  )
  for out in (store, mapped, np.full(SHAPE, 9, np.int64)):
    labels, _ = segment_large(model(), image(), out, **SMALL)
    assert labels is out
    np.testing.assert_array_equal(out[:, :], expected)


def test_no_more_than_a_tile_is_read_or_a_block_written(monkeypatch, tmp_path):
  kept = []

  def watched(*arguments):
    kept.append(Watched(blocks.Scratch(*arguments)))
    return kept[-1]

  monkeypatch.setattr(large, 'Scratch', watched)
  source = Watched(image((400, 330)))
  out = Watched(np.zeros((400, 330), np.int32))
  segment_large(model(), source, out, scratch=tmp_path, **SMALL)
  assert source.largest == 96 * 96
  assert out.largest == 40 * 40
  assert len(kept) == 3  # Foreground, pieces, regions.
  assert max(scratch.largest for scratch in kept) == 96 * 96
  assert list(tmp_path.iterdir()) == []


def peak_memory(tmp_path, repeats):
  """Bytes that decoding an image of so many copies of one takes at most."""
  tile = np.float32(cells(0, (256, 256))[1] > 0)
  shape = (256 * repeats, 256 * repeats)
  config = DecodingConfig(min_area=5)
  with large.scratch_images(shape, tmp_path) as new_image:
    foreground, out = new_image(np.float32), new_image(np.int32)
    for box in blocks.cut(shape, tile.shape):
      foreground[box.slices] = tile
    tracemalloc.start()
    large.decode_large(
      {'foreground': foreground},
      config,
      {'threshold': 0.5},
      out,
      block=256,
      new_image=new_image,
    )
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
  return peak


def test_memory_hardly_grows_with_the_image(tmp_path):
  small, big = (peak_memory(tmp_path, repeats) for repeats in (2, 8))
  image_size = 4 * 256**2 * 64
  assert big - small < image_size / 4
  assert big < image_size / 2


def test_scratch_is_removed_after_an_error(tmp_path):
  broken = image().astype(float)
  broken[77, 101] = np.nan
  with pytest.raises(ValueError, match='row 77, column 101'):
    segment_large(model(), broken, scratch=tmp_path, **SMALL)
  assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
  ('channels', 'shape', 'message'),
  [
    (1, (40, 30, 3), r'\(H, W\) .* found \(40, 30, 3\)'),
    (2, (40, 30), r'\(H, W, 2\) .* found \(40, 30\)'),
    (2, (2, 40, 30), r'\(H, W, 2\) .* found \(2, 40, 30\)'),
    (1, (0, 30), r'at least one pixel, found \(0, 30\)'),
    (1, (30,), r'found \(30,\)'),
  ],
)
def test_other_shapes_are_refused(channels, shape, message):
  with pytest.raises(ValueError, match=message):
    segment_large(model(data={'channels': channels}), np.zeros(shape))


@pytest.mark.parametrize(
  'out',
  [np.zeros((150, 189), int), np.zeros(SHAPE), np.zeros((1, *SHAPE), int)],
)
def test_an_output_of_another_kind_is_refused_at_once(monkeypatch, out):
  monkeypatch.setattr(large, 'predict_large', None)
  with pytest.raises(ValueError, match=r'integer array of shape \(150, 190\)'):
    segment_large(model(), image(), out)


@pytest.mark.parametrize(
  ('sizes', 'message'),
  [
    ({'overlap': 0}, 'overlap .* multiple of 32, found 0'),
    ({'overlap': 50}, 'overlap .* multiple of 32, found 50'),
    ({'tile': 0}, 'found 0 and 1024'),
    ({'block': -1}, 'found 2048 and -1'),
  ],
)
def test_impossible_sizes_are_refused(sizes, message):
  with pytest.raises(ValueError, match=message):
    segment_large(model(), image(), **sizes)


def test_a_tiny_image():
  for shape in ((1, 1), (31, 5)):
    labels, confidence = segment_large(model(), np.full(shape, 7, np.uint8))
    assert (labels == 0).all()
    assert confidence.shape == (0,)
