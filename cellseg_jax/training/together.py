"""Trains several runs as one program, as the studies do on a GPU.

Runs that differ only in their seed and in which images of a set they train on
make the same computation on different numbers. So their states are stacked
along a new first axis, and `train_step` is mapped over it. The images lie on
the device once; each run has a layout that draws crops from its own images
only. A run's folder is written as by `loop.train`; its weights differ from
those of the run trained alone only by rounding.
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

# Maximum number of runs that are trained together; small data sets have about
# as many folds. Each run has a save in progress and a progress bar, and the
# more there are, the longer it takes until the first one finishes.
MOST = 8
# Bytes that an update needs per pixel of its crops, and the share of a device's
# memory that all updates may take. XLA reports 2780 bytes for the case study on
# a CPU (two crops of 256 x 256, gradients included), and 1080 for `cells`.
BYTES_A_PIXEL = 3000
MOST_OF_MEMORY = 0.5


def is_worthwhile(config: Config) -> bool:
  """Returns whether runs should be trained together on this machine.

  They should not on CPUs, where it takes longer than one after another; nor on
  several devices, which share the crops of one run instead; nor if
  `training.deterministic` is on, since a run's last bits depend on the runs
  that it is trained with.

  Args:
    config: The configuration of one of the runs.
  """
  return (
    jax.default_backend() != 'cpu'
    and jax.device_count() == 1
    and not config.training.deterministic
  )


def groups(
  configs: Mapping[pathlib.Path, Config], images: Sequence[LabelledImage]
) -> list[list[pathlib.Path]]:
  """Divides runs into groups that can be trained together.

  Args:
    configs: The resolved config of every run, by folder; `data.train_images`
      names the run's images.
    images: The images of the data set, those of all runs among them.

  Returns:
    The folders of each group. A group of one is to be trained alone.
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
  """Trains a group of runs, or resumes trainings that were stopped.

  Runs that are at the same step are trained together, for instance all runs of
  a call that a signal interrupted.

  Args:
    configs: The configs of one of the `groups`, by folder.
    images: The images of the data set, those of all runs among them, without
      crops held out.

  Raises:
    ConfigError: A field is invalid, or a folder holds another run.
    LabelError: Training images or labels are faulty.
    CheckpointError: No checkpoint of a run is intact, a checkpoint cannot be
      saved, or the run named by `training.init_from` cannot be used.
    FileNotFoundError: There is no run at `training.init_from`.
    LockedError: Another process is using a folder.
    ProvenanceError: A folder holds a run on other files.
    OutsideError: A folder in a run's folder is a symbolic link that leads out
      of it.
    TrainingError: Too many updates in a row of a run were skipped; all runs are
      saved.
    Interrupted: A signal asked to stop; all runs are saved.
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
  """Makes the remaining updates of several runs that are at the same step."""
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
    update: Function (state, pool, device, seed, *, axis_name) -> (state, loss).

  Returns:
    A function (states, (pool, seeds), device, *, axis_name) -> (states, losses)
    with states stacked along the first axis, a pool as `shared_pool` returns
    it, seeds uint32 (runs,) and losses float32 (runs,).
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
  """Builds one pool of the images of all runs.

  Args:
    configs: The resolved configs of the runs.
    images: The images of the data set, those of all runs among them.

  Returns:
    A `Pool` of host arrays, whose `bounds` and `cells` have a new first axis of
    runs, so that each run draws crops only from its own images.
  """
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
  """Returns a config with the fields reset in which a group's runs may differ.

  Updates do not depend on these, or get them as arguments: the seed, the
  training images (which the layout represents), the cell diameter measured on
  them, and the decoding.
  """
  config = replace(
    config,
    data={'train_images': '', 'diameter': 0.0},
    training={'seed': 0},
  )
  return dataclasses.replace(config, decoding=DecodingConfig())


def _used(
  configs: Sequence[Config], images: Sequence[LabelledImage]
) -> list[LabelledImage]:
  """Returns the images that at least one of the runs trains on."""
  names = {name for config in configs for name in _names(config)}
  return [image for image in images if image.name in names]


def _names(config: Config) -> list[str]:
  return config.data.train_images.split(',')


def _most(config: Config, images: Sequence[LabelledImage]) -> int:
  """Returns the maximum number of runs to train together on these images."""
  if is_streamed(config, survey(images)):
    return 1
  run = config.training
  needed = BYTES_A_PIXEL * run.batch_size * run.crop_size**2
  return max(1, min(MOST, int(MOST_OF_MEMORY * device_memory() / needed)))
