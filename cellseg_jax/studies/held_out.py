"""Leave-one-out training: segments every image by a model not trained on it.

`cross_validation` and `audit` are built on it.
"""

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
  """An image, segmented by a model that was trained on the others.

  Attributes:
    image: The image with its labels.
    model: The model that was trained without this image.
    maps: The maps that the model predicts, by name, float32 (H, W), 0 to 1.
    settings: Decoder settings, chosen on the held-out maps of the other images.
    predicted: Label image of the decoded cells, int32 (H, W).
  """

  image: LabelledImage
  model: Model
  maps: Maps
  settings: dict[str, float]
  predicted: np.ndarray


def leave_one_out(config: Config, out: pathlib.Path) -> list[HeldOut]:
  """Trains one model per training image, on all of the other images.

  All runs see the images at one scale, derived from the cells of all images.
  Images without a labelled cell are trained on, but never held out.

  Args:
    config: The config of the runs.
    out: Folder of the study; the runs are in `folds/NAME`.

  Returns:
    Every training image with a labelled cell, segmented by the model that was
    trained without it.

  Raises:
    ConfigError: There are fewer than three such images, they have changed since
      the first run, or a field is invalid.
    LabelError: Training images or labels are faulty.
    TrainingError: Too many updates in a row were skipped.
    Interrupted: A signal asked to stop; the current runs are saved.
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
  """Predicts the maps of each image by its model, and decodes the cells."""
  maps = [maps_of(*pair) for pair in zip(models, images, strict=True)]
  settings = choose_on_others(maps, images, config.decoding)
  return [
    HeldOut(image, model, one, own, decode(one, config.decoding, own))
    for image, model, one, own in zip(
      images, models, maps, settings, strict=True
    )
  ]
