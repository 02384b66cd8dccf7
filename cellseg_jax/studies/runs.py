"""The training runs of a study: each in a folder of its own, none made twice.

They are made one after another. A study that was stopped goes on with the run
that it was at, from that run's last checkpoint.
"""

from collections.abc import Sequence
import json
import pathlib

from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import Splits
from cellseg_jax.datasets.survey import survey
from cellseg_jax.serialization import replace, replace_text
from cellseg_jax.training.loop import train
from cellseg_jax.training.provenance import check_config
from cellseg_jax.training.resolve import resolve
from cellseg_jax.training.results import read_evaluation


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
  """
  return replace(
    config,
    data={'train_images': ','.join(names)},
    training={'seed': seed, 'evaluate_every': config.training.steps},
  )


def run_once(config: Config, workdir: pathlib.Path) -> None:
  """Makes a run, goes on with it, or leaves it where it is finished.

  Args:
    config: As `config_of_run` returns.
    workdir: Its folder.

  Raises:
    ConfigError, LabelError, TrainingError, Interrupted: As `train`.
  """
  check_config(workdir, config)
  done = read_evaluation(workdir / 'evaluation.json').get('step', 0)
  # The figures are drawn last, once the checkpoint is saved.
  if done < config.training.steps or not any(workdir.glob('figures/*')):
    print(f'Run {workdir}', flush=True)
    train(config, workdir)
