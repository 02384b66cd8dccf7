"""Ranks unlabelled images by the disagreement of an ensemble's members.

The image that they disagree on most is the one to label next (`audit`).
"""

from collections.abc import Sequence
import pathlib

import numpy as np

from cellseg_jax.atomic import replace_json
from cellseg_jax.config import ConfigError
from cellseg_jax.images import formats
from cellseg_jax.images.labels import check_image
from cellseg_jax.inference.ensemble import predict_with_disagreement
from cellseg_jax.inference.predict import Model
from cellseg_jax.studies import figures, tables

DRAWN = 6


def find(folder: str | pathlib.Path) -> list[pathlib.Path]:
  """Lists the images of a folder.

  Args:
    folder: The folder.

  Raises:
    ConfigError: The folder holds no image.
    ImageFileError: There is no such folder.
  """
  found = formats.list_images(pathlib.Path(folder))
  if not found:
    raise ConfigError(f'--unlabelled: no image in {folder}')
  return found


def disagreement(mean: np.ndarray, deviation: np.ndarray) -> float:
  """Returns how much models differ where some of them see a cell.

  Background on which all agree does not count; otherwise crowded images would
  always rank first.

  Args:
    mean: Mean foreground probability over the models, float (H, W), 0 to 1.
    deviation: Standard deviation of that probability over the models, float
      (H, W).

  Returns:
    Mean deviation over the pixels whose mean plus deviation is at least 0.5; 0
    to 0.5, and 0 if there is no such pixel.
  """
  seen = mean + deviation >= 0.5
  return float(deviation[seen].mean()) if seen.any() else 0.0


def rank_images(
  model: Model, files: Sequence[pathlib.Path], out: pathlib.Path
) -> dict[str, float]:
  """Ranks images by the disagreement of an ensemble.

  Args:
    model: The ensemble.
    files: Image files of distinct names, each small enough to be segmented as a
      whole.
    out: Folder for `unlabelled.json`, `.csv` and `.png`.

  Returns:
    Disagreement by file name, highest first.

  Raises:
    ImageFileError: An image cannot be read.
    LabelError: An image has other channels than the model, or contains NaN.
  """
  found = {path.name: disagreement(*_foreground(model, path)) for path in files}
  ranked = dict(sorted(found.items(), key=lambda pair: -pair[1]))
  replace_json(out / 'unlabelled.json', ranked)
  tables.write_csv(
    out / 'unlabelled.csv',
    [
      {'rank': number, 'file': name, 'disagreement': value}
      for number, (name, value) in enumerate(ranked.items(), 1)
    ],
  )
  paths = {path.name: path for path in files}
  first = [paths[name] for name in list(ranked)[:DRAWN]]
  figures.disagreements(
    out / 'unlabelled.png',
    [formats.read_image(path) for path in first],
    [_foreground(model, path)[1] for path in first],
    [f'{path.name}: {ranked[path.name]:.3f}' for path in first],
  )
  return ranked


def _foreground(
  model: Model, path: pathlib.Path
) -> tuple[np.ndarray, np.ndarray]:
  """Returns mean and deviation of an image's foreground probability."""
  image = formats.read_image(path)
  check_image(image, str(path), model.config.data.channels)
  mean, deviation = predict_with_disagreement(model, image)
  return np.asarray(mean['foreground']), np.asarray(deviation['foreground'])
