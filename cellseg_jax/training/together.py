"""Several training runs as one program.

Runs that differ in their seed and in which images of a set they train on make
the same updates of other numbers. So their states are stacked along a new first
axis, over which `train_step` is mapped. The images lie on the device once, and
each run has a layout that leaves all crops to its own. Its folder is written as
by `loop.train`; its weights differ from those of a run alone by rounding.
"""

from collections.abc import Callable, Mapping, Sequence
import contextlib
import dataclasses
import itertools
import pathlib
from typing import Any

import jax
import numpy as np

from cellseg_jax.config import Config, DecodingConfig
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.pool import build_pool, layout_of_some, Pool
from cellseg_jax.datasets.survey import survey
from cellseg_jax.serialization import replace
from cellseg_jax.training import parallel
from cellseg_jax.training.feed import device_memory, is_streamed
from cellseg_jax.training.loop import enter, finish, go_on, prepare
from cellseg_jax.training.step import TrainState
from cellseg_jax.training.updates import make_updates, Run, update_of

# Runs that are made together, at most: as many folds as small sets have. Each
# has checkpoints in the making and a bar, and more of them wait longer for the
# first to be done.
MOST = 8
# What an update holds in memory for a pixel of its crops, by XLA's account of
# the case study's on a CPU (2780 with two crops of 256 x 256, gradients
# included; of `cells` 1080); and the share of a device's memory that may take.
BYTES_A_PIXEL = 3000
MOST_OF_MEMORY = 0.5


def is_worthwhile(config: Config) -> bool:
  """Whether runs should be made together on this machine.

  On CPUs it takes longer than one after another; several devices share the
  crops of one run; and the last bits depend on the company.
  """
  return (
    jax.default_backend() != 'cpu'
    and jax.device_count() == 1
    and not config.training.deterministic
  )


def groups(
  configs: Mapping[pathlib.Path, Config], images: Sequence[LabelledImage]
) -> list[list[pathlib.Path]]:
  """Divides runs into those that can be made together.

  Args:
    configs: Of every run by its folder; resolved, with the names of its images.
    images: Of the set, the runs' among them.

  Returns:
    The folders; one that stands alone is of a run to be made alone.
  """
  alike: dict[Config, list[pathlib.Path]] = {}
  for workdir, config in configs.items():
    alike.setdefault(_common(config), []).append(workdir)
  found = []
  for config, workdirs in alike.items():
    most = _most(config, _used([configs[w] for w in workdirs], images))
    count = -(-len(workdirs) // most)
    found += [workdirs[first::count] for first in range(count)]
  return found


def train_together(
  configs: Mapping[pathlib.Path, Config], images: Sequence[LabelledImage]
) -> None:
  """Trains models, or goes on where an earlier call was stopped.

  Runs that stand at the same step are made together, for instance all those of
  a call that a signal ended.

  Args:
    configs: Of one of the `groups`, by folder.
    images: Of the set, the runs' among them; whole.

  Raises:
    ConfigError, LabelError, CheckpointError, FileNotFoundError, LockedError,
      ProvenanceError: As `loop.train`.
    TrainingError, Interrupted: As `make_updates`.
  """
  with contextlib.ExitStack() as stack:
    standing: dict[int, list[tuple[Run, TrainState]]] = {}
    for workdir, config in configs.items():
      run = prepare(config, workdir, name=workdir.name)
      state = jax.device_get(enter(run, stack))
      standing.setdefault(int(state.step), []).append((run, state))
    for step, these in sorted(standing.items()):
      runs, states = zip(*these, strict=True)
      if len(runs) == 1:
        go_on(*runs, *states)
      elif step < runs[0].config.training.steps:
        _go_on(runs, states, images)
      for run in runs:
        finish(run)


def _go_on(
  runs: Sequence[Run],
  states: Sequence[TrainState],
  images: Sequence[LabelledImage],
) -> None:
  """Makes the updates that are left of several runs after their states."""
  config = _common(runs[0].config)
  pool = shared_pool([run.config for run in runs], images)
  seeds = np.array([run.config.training.seed for run in runs], np.uint32)
  for run, state in zip(runs, states, strict=True):
    run.record.begin(state)
  stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *states)
  data = parallel.replicate((pool, seeds))
  make_updates(
    runs,
    stacked,
    mapped(update_of(config)),
    lambda first, steps: itertools.repeat(data),
  )


def mapped(
  update: Callable[..., tuple[TrainState, jax.Array]],
) -> Callable[..., tuple[TrainState, jax.Array]]:
  """Maps an update over runs.

  Args:
    update: (state, pool, device, seed, *, axis_name) -> (state, loss).

  Returns:
    The same of stacked states, losses (runs,), and, in place of the pool, a
    pool with stacked `bounds` and `cells`, and the seeds, uint32 (runs,).
  """

  def updates(
    state: TrainState, data: tuple[Pool, jax.Array], device: Any, **options: Any
  ) -> tuple[TrainState, jax.Array]:
    pool, seeds = data

    def of_one(
      state: TrainState, bounds: Any, cells: Any, seed: jax.Array
    ) -> tuple[TrainState, jax.Array]:
      own = dataclasses.replace(pool, bounds=bounds, cells=cells)
      return update(state, own, device, seed, **options)

    return jax.vmap(of_one)(state, pool.bounds, pool.cells, seeds)

  return updates


def shared_pool(
  configs: Sequence[Config], images: Sequence[LabelledImage]
) -> Pool:
  """Returns all runs' images, with bounds and cells of each run, stacked."""
  used = _used(configs, images)
  pool = build_pool(used, _common(configs[0]))
  layouts = [
    layout_of_some(pool, np.isin([image.name for image in used], _names(one)))
    for one in configs
  ]
  return dataclasses.replace(
    pool,
    bounds=np.stack([layout.bounds for layout in layouts]),
    cells=np.stack([layout.cells for layout in layouts]),
  )


def _common(config: Config) -> Config:
  """Returns a config without what updates do not read as it stands there."""
  config = replace(
    config,
    data={'train_images': '', 'diameter': 0.0},
    training={'seed': 0},
  )
  return dataclasses.replace(config, decoding=DecodingConfig())


def _used(
  configs: Sequence[Config], images: Sequence[LabelledImage]
) -> list[LabelledImage]:
  """Returns the images that one of the runs trains on."""
  names = {name for config in configs for name in _names(config)}
  return [image for image in images if image.name in names]


def _names(config: Config) -> list[str]:
  return config.data.train_images.split(',')


def _most(config: Config, images: Sequence[LabelledImage]) -> int:
  """Returns how many runs on these images can be made together."""
  if is_streamed(config, survey(images)):
    return 1
  run = config.training
  needed = BYTES_A_PIXEL * run.batch_size * run.crop_size**2
  return max(1, min(MOST, int(MOST_OF_MEMORY * device_memory() / needed)))
