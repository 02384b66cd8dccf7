"""Supplies the pixels that updates cut their crops from.

Resident images all lie on every device, which also draws where to cut.
Streamed images lie on disk: the host draws where to cut and reads a window
around that place, and the device does the rest. Both give the same crops, since
seed, step and index in the batch determine a crop's image and place.
"""

from collections.abc import Callable, Iterator, Sequence
import functools
import itertools
import os
from typing import Protocol

import jax
import numpy as np

from cellseg_jax.config import (
  AugmentationConfig,
  Config,
  ConfigError,
  TrainingConfig,
)
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import Splits
from cellseg_jax.datasets.pool import (
  aligned_zeros,
  build_pool,
  depth,
  Layout,
  network_sizes,
  Pool,
  Windows,
)
from cellseg_jax.datasets.survey import Survey
from cellseg_jax.datasets.tiles import open_tiles, Tiles
from cellseg_jax.training import parallel
from cellseg_jax.training.augment import most_reach, reach
from cellseg_jax.training.places import choose, crop_keys, Place
from cellseg_jax.training.step import sample_keys

# Share of a device's memory that resident training images may take.
MOST_OF_MEMORY = 0.25
# Number of pixels at which int32 indices no longer suffice.
MOST_PIXELS = 2**31
# Number of steps whose crop places are drawn at once.
DRAWN = 256
# Number of reader threads, and of steps to prefetch.
READERS = min(8, max(1, (os.cpu_count() or 1) // 2))
AHEAD = 2 * READERS


class Feed(Protocol):
  """Interface of the sources that updates cut their crops from.

  Attributes:
    streamed: Whether the images are streamed from disk.
  """

  streamed: bool

  def at(self, step: int) -> Pool | Windows:
    """Returns what all samples of an update are cut from, for one device.

    Args:
      step: Number of updates made before this one.
    """

  def calls(self, first: int, steps: int) -> Iterator[Pool | Windows]:
    """Yields the pool argument of each call of the compiled updates, in turn.

    The calls are those of the function that `parallel.parallel_steps` returns.

    Args:
      first: Number of updates made before the first call.
      steps: Number of updates per call.
    """


def make_feed(
  splits: Splits, config: Config, found: Survey, say: Callable[[str], None]
) -> Feed:
  """Makes a `Streamed` or a `Resident` feed, as `training.stream` says.

  Args:
    splits: The images of the run.
    config: The resolved configuration.
    found: Survey of the training images.
    say: Called with a message before a slow step.

  Raises:
    ConfigError: The images cannot be streamed, or cannot be held on the
      devices.
  """
  if not is_streamed(config, found):
    return Resident(splits.train, config)
  if not splits.apart:
    raise ConfigError(
      'config.training.stream: the training images are to be streamed from the '
      'disk, and then cannot be validated on as well; add a validation split, '
      'or hold some images out with config.data.held_out'
    )
  say('Crops are streamed from the disk; the images are prepared for it once')
  return Streamed(open_tiles(splits.train, config, splits.digest), config)


def is_streamed(config: Config, found: Survey) -> bool:
  """Returns whether crops are streamed; the same in all processes.

  Args:
    config: The resolved configuration.
    found: Survey of the training images.

  Raises:
    ConfigError: `training.stream` is 'never', but the images have too many
      pixels to be held on a device.
  """
  count, side = len(found.shapes), network_sizes(found.shapes, config).max(0)
  pixels = count * int(side[0]) * int(side[1])
  wanted = config.training.stream
  if wanted == 'never' and pixels >= MOST_PIXELS:
    raise ConfigError(
      f"config.training.stream is 'never', but {count} training images of up "
      f'to {side[0]} x {side[1]} pixels are too many to be held on a device; '
      "set it to 'auto'"
    )
  if wanted != 'auto':
    return wanted == 'always'
  size = 4 * pixels * depth(config)
  large = pixels >= MOST_PIXELS or size > MOST_OF_MEMORY * device_memory()
  agree = parallel.largest_of_all()
  return bool(agree(large)) if agree else large


def device_memory() -> int:
  """Returns the bytes of memory of a local device; on a CPU, of the host."""
  stats = jax.local_devices()[0].memory_stats()
  if stats and 'bytes_limit' in stats:
    return stats['bytes_limit']
  # CPU devices share the host's memory, and also the arrays in it.
  return os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES')


class Resident:
  """A feed that holds all training images on every device."""

  streamed = False

  def __init__(self, images: Sequence[LabelledImage], config: Config):
    self._pool = build_pool(images, config)

  def at(self, step: int) -> Pool:
    del step
    return self._on_one

  def calls(self, first: int, steps: int) -> Iterator[Pool]:
    del first, steps
    return itertools.repeat(parallel.replicate(self._pool))

  @functools.cached_property
  def _on_one(self) -> Pool:
    return jax.device_put(self._pool)


class Streamed:
  """A feed that reads, from disk, the windows of this process's samples."""

  streamed = True

  def __init__(self, tiles: Tiles, config: Config):
    self._tiles, self._config = tiles, config
    self._most = most_reach(config.augmentation, config.training.crop_size)
    self._places = functools.lru_cache(maxsize=4)(self._draw)

  def at(self, step: int) -> Windows:
    return self.windows(step, range(self._config.training.batch_size))

  def calls(self, first: int, steps: int) -> Iterator[Windows]:
    # Imported here, since only streaming runs need it.
    import grain

    run = self._config.training
    samples = parallel.local_samples(run.batch_size)
    reading = grain.MapDataset.range(first, run.steps).map(
      lambda step: self.windows(int(step), samples)
    )
    # Threads, since Grain's processes would need absl's flags to be parsed.
    read = reading.to_iter_dataset(grain.ReadOptions(READERS, AHEAD))
    batches = read.batch(steps, drop_remainder=True, batch_fn=_stack)
    return parallel.ahead(parallel.spread(of_call) for of_call in batches)

  def windows(self, step: int, samples: range) -> Windows:
    """Reads the windows that some samples of an update are cut from.

    Args:
      step: Number of updates made before this one.
      samples: Indices of the samples in the global batch.

    Returns:
      One window per sample, as host arrays.
    """
    drawn = self._places(step // DRAWN)
    picked = slice(samples.start, samples.stop)
    place, reaches = jax.tree.map(lambda of: of[step % DRAWN, picked], drawn)
    side = self._config.training.crop_size + 2 * self._most
    pixels = aligned_zeros((len(samples), side, side, self._tiles.depth))
    for window, image, origin, beyond in zip(
      pixels, *place, reaches, strict=True
    ):
      # Pixels that the crop cannot reach are not read and stay 0.
      unread = self._most - beyond
      inside = slice(unread, side - unread)
      self._tiles.read(int(image), origin - beyond, window[inside, inside])
    channels = self._config.data.channels
    return Windows(pixels, place.image, place.origin, channels)

  def _draw(self, number: int) -> tuple[Place, np.ndarray]:
    """Draws place and reach of all samples of `DRAWN` steps, on the host."""
    steps = number * DRAWN + np.arange(DRAWN, dtype=np.int32)
    with jax.default_device(jax.local_devices(backend='cpu')[0]):
      drawn = _places(
        steps,
        self._tiles.layout,
        self._config.augmentation,
        self._config.training,
      )
    return jax.tree.map(np.asarray, drawn)


@functools.partial(jax.jit, static_argnums=(2, 3))
def _places(
  steps: jax.Array,
  layout: Layout,
  changes: AugmentationConfig,
  run: TrainingConfig,
) -> tuple[Place, jax.Array]:
  """Returns place and reach of all N samples of T steps, arrays (T, N, ...)."""
  samples = jax.numpy.arange(run.batch_size, dtype='int32')

  def at(step: jax.Array) -> tuple[Place, jax.Array]:
    keys = crop_keys(sample_keys(run.seed, step, samples))
    place = choose(keys, layout, changes, run.crop_size)
    return place, jax.vmap(lambda own: reach(own, changes, run.crop_size))(keys)

  return jax.vmap(at)(steps)


def _stack(of_steps: Sequence[Windows]) -> Windows:
  """Stacks the windows of the steps of one call along a new first axis."""
  if len(of_steps) == 1:  # The case on CPUs; avoids a copy.
    return jax.tree.map(lambda x: x[None], of_steps[0])
  return jax.tree.map(lambda *x: np.stack(x), *of_steps)
