"""The training runs of a study: each in a folder of its own, none made twice.

On CPUs they are made one after another, on a GPU together where they can be. A
study that was stopped goes on with the runs that it was at, from their last
checkpoints.
"""

from collections.abc import Mapping, Sequence
import json
import pathlib

import jax

from cellseg_jax.atomic import replace_text
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import Splits
from cellseg_jax.datasets.survey import survey
from cellseg_jax.serialization import replace
from cellseg_jax.training.loop import train
from cellseg_jax.training.provenance import check_config
from cellseg_jax.training.resolve import resolve
from cellseg_jax.training.results import read_evaluation
from cellseg_jax.training.together import (
  groups,
  is_worthwhile,
  train_together,
)


def check_data(out: pathlib.Path, splits: Splits) -> None:
  """Refuses a study whose images or labels have changed since its first run.

  Raises:
    ConfigError: They have.
  """
  path = out / 'data.json'
  if not path.exists():
    out.mkdir(parents=True, exist_ok=True)
    replace_text(path, json.dumps({'digest': splits.digest}) + '\n')
  elif json.loads(path.read_text())['digest'] != splits.digest:
    raise ConfigError(
      f'images or labels have changed since the runs in {out} were made; '
      'choose another --out'
    )


def with_cells(images: Sequence[LabelledImage]) -> list[LabelledImage]:
  """Returns the images with a labelled cell: others tell no score."""
  return [image for image in images if survey([image]).areas.size]


def resolve_once(
  config: Config, images: Sequence[LabelledImage], pixel_size: float
) -> Config:
  """Derives what follows from the cells, so that no run derives it again.

  Args:
    config: As given.
    images: The images whose cells count.
    pixel_size: Side of their pixels in um; 0 if unknown.
  """
  resolved = resolve(config, survey(images).areas, pixel_size)
  return replace(resolved, data={'cell_diameter': 0.0})


def config_of_run(config: Config, names: Sequence[str], seed: int) -> Config:
  """Returns the config of one run.

  It is evaluated at its end alone: then its model is the last one, and nothing
  about it was chosen on images that it is judged by.

  Args:
    config: That of the study, resolved.
    names: Of the images to train on.
    seed: The run's.

  Raises:
    ConfigError: A name cannot stand in a list of names.
  """
  for name in names:
    if ',' in name:
      raise ConfigError(
        f'{name}: the name of an image in a study must hold no comma; rename '
        'the image and its label'
      )
  return replace(
    config,
    data={'train_images': ','.join(names)},
    training={'seed': seed, 'evaluate_every': config.training.steps},
  )


def make_runs(
  configs: Mapping[pathlib.Path, Config],
  images: Sequence[LabelledImage],
  together: bool | None = None,
) -> None:
  """Makes runs, goes on with them, or leaves them where they are finished.

  Args:
    configs: By folder; as `config_of_run` returns.
    images: Of the set, the runs' among them; whole.
    together: Whether runs that can be made as one program are; None: where
      `is_worthwhile` says so.

  Raises:
    ConfigError, LabelError, TrainingError, Interrupted: As `train`.
  """
  for workdir, config in configs.items():
    check_config(workdir, config)
  left = {
    workdir: config
    for workdir, config in configs.items()
    if not _is_finished(workdir, config)
  }
  if together is None:
    together = all(map(is_worthwhile, left.values()))
  alone = [[workdir] for workdir in left]
  for workdirs in groups(left, images) if together else alone:
    print(f'Run {", ".join(map(str, workdirs))}', flush=True)
    if len(workdirs) == 1:
      train(left[workdirs[0]], workdirs[0])
    else:
      train_together({workdir: left[workdir] for workdir in workdirs}, images)
    # Each run compiles programs of its own, of thousands of mapped pages: Linux
    # allows a process 65,530, which ten runs exceed.
    jax.clear_caches()


def _is_finished(workdir: pathlib.Path, config: Config) -> bool:
  done = read_evaluation(workdir / 'evaluation.json').get('step', 0)
  # The figures are drawn last, once the checkpoint is saved.
  return done >= config.training.steps and any(workdir.glob('figures/*'))
