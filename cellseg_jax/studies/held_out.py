"""Every image of a set as seen by a model that was not trained on it."""

import dataclasses
import pathlib

import numpy as np

from cellseg_jax.config import Config, ConfigError
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import load_whole
from cellseg_jax.evaluation.assess import maps_of
from cellseg_jax.evaluation.choose import choose_on_others
from cellseg_jax.inference.decode import decode, Maps
from cellseg_jax.inference.load import load_model
from cellseg_jax.inference.predict import Model
from cellseg_jax.studies.runs import (
  check_data,
  config_of_run,
  make_runs,
  resolve_once,
  with_cells,
)

FOLDS = 'folds'


@dataclasses.dataclass(frozen=True, eq=False)
class HeldOut:
  """An image and what a model made of it that was trained on the others.

  Attributes:
    image: The image with its labels.
    model: That model.
    maps: What it predicts, by name, float32 (H, W), 0 to 1.
    settings: The decoder's, chosen on the other images, each as it was held
      out.
    predicted: The cells so decoded, int32 (H, W).
  """

  image: LabelledImage
  model: Model
  maps: Maps
  settings: dict[str, float]
  predicted: np.ndarray


def leave_one_out(config: Config, out: pathlib.Path) -> list[HeldOut]:
  """Trains once for every training image, on all of the others.

  All runs see the images at one scale, derived from the cells of all images.
  Images without a labelled cell are trained on and not held out.

  Args:
    config: Of the runs.
    out: Folder of the study; the runs lie in `folds/NAME`.

  Returns:
    Every training image with a cell, held out.

  Raises:
    ConfigError: There are fewer than three such images, or they have
      changed since.
    ConfigError, LabelError, TrainingError, Interrupted: As `train`.
  """
  splits = load_whole(config.data)
  images = with_cells(splits.train)
  if len(images) < 3:
    raise ConfigError(
      'leaving one out needs at least 3 images with labelled cells, found '
      f'{len(images)} in split {config.data.train_split!r}'
    )
  check_data(out, splits)
  config = resolve_once(config, images, splits.pixel_size)
  names = [image.name for image in splits.train]
  runs = {}
  for image in images:
    others = [name for name in names if name != image.name]
    run = config_of_run(config, others, config.training.seed)
    runs[out / FOLDS / image.name] = run
  make_runs(runs, splits.train)
  return _look(config, images, [load_model(workdir) for workdir in runs])


def _look(
  config: Config, images: list[LabelledImage], models: list[Model]
) -> list[HeldOut]:
  """Predicts each image by its model and decodes it."""
  maps = [maps_of(*pair) for pair in zip(models, images, strict=True)]
  settings = choose_on_others(maps, images, config.decoding)
  return [
    HeldOut(image, model, one, own, decode(one, config.decoding, own))
    for image, model, one, own in zip(
      images, models, maps, settings, strict=True
    )
  ]
