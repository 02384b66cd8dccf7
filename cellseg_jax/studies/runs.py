"""Makes the training runs of a study, each in its own folder.

On CPUs they are trained one after another; on a single GPU, together where that
is possible. A study that was stopped skips finished runs and resumes the others
from their last checkpoints.
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
  """Checks that images and labels are those of the study's first run.

  The first call stores their digest in `data.json`.

  Args:
    out: Folder of the study; created if absent.
    splits: The images of the study.

  Raises:
    ConfigError: Images or labels have changed.
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
  """Returns the images with a labelled cell; others cannot be scored."""
  return [image for image in images if survey([image]).areas.size]


def resolve_once(
  config: Config, images: Sequence[LabelledImage], pixel_size: float
) -> Config:
  """Resolves a config so that the study's runs do not resolve it again.

  Each run would otherwise derive its own image scale from its own cells.

  Args:
    config: The config as the user gave it.
    images: The images whose cells the fields are derived from.
    pixel_size: Side of their pixels in um; 0 if unknown.

  Returns:
    The resolved config, with `data.cell_diameter` set to 0.
  """
  resolved = resolve(config, survey(images).areas, pixel_size)
  return replace(resolved, data={'cell_diameter': 0.0})


def config_of_run(config: Config, names: Sequence[str], seed: int) -> Config:
  """Returns the config of one run.

  The run is evaluated only at its end, so that its model is always the last
  one: which model to keep is not chosen on the images that it is judged by.

  Args:
    config: The resolved config of the study.
    names: Names of the images to train on.
    seed: Seed of the run.

  Raises:
    ConfigError: A name contains a comma.
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
  """Makes or resumes runs; skips those that are finished.

  Args:
    configs: The configs of the runs, as `config_of_run` returns them, by
      folder.
    images: The images of the data set, those of all runs among them, without
      crops held out.
    together: Whether to train runs as one program where possible; if None, only
      if `is_worthwhile` is true of all of them.

  Raises:
    ConfigError: A field is invalid, or a folder holds another run.
    LabelError: Training images or labels are faulty.
    TrainingError: Too many updates in a row were skipped.
    Interrupted: A signal asked to stop; the current runs are saved.
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
    # Each run compiles its own programs, which take thousands of memory
    # mappings; ten runs exceed the 65,530 that Linux allows a process.
    jax.clear_caches()


def _is_finished(workdir: pathlib.Path, config: Config) -> bool:
  done = read_evaluation(workdir / 'evaluation.json').get('step', 0)
  # The figures are drawn last, after the checkpoint is saved.
  return done >= config.training.steps and any(workdir.glob('figures/*'))
