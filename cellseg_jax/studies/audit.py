"""Label audit: finds labels that are likely wrong, and images to label next.

Labels are judged by models that were not trained on them (`held_out`);
unlabelled images are ranked by the disagreement of these models.
"""

from collections.abc import Sequence
import dataclasses
import pathlib
from typing import Any

import numpy as np

from cellseg_jax.atomic import replace_json
from cellseg_jax.config import Config
from cellseg_jax.datasets.pool import build_pool
from cellseg_jax.images.normalize import resampled_shape
from cellseg_jax.images.targets import resample_labels
from cellseg_jax.inference.ensemble import ensemble
from cellseg_jax.studies import disagreement, figures, tables
from cellseg_jax.studies.held_out import HeldOut, leave_one_out
from cellseg_jax.studies.losses import gradient_norms, pixel_losses
from cellseg_jax.studies.suspects import measure, rank, regions, Suspect

# Number of suspects in the picture; the JSON and CSV files list all.
DRAWN = 45


def audit(
  config: Config, out: pathlib.Path, unlabelled: Sequence[pathlib.Path] = ()
) -> dict[str, Any]:
  """Ranks cells by the loss of their labels under a model of other images.

  Args:
    config: The config of the runs.
    out: Folder for the runs and for `audit.json`, `.csv` and `.png`.
    unlabelled: Images to rank by disagreement, into `unlabelled.json`, `.csv`
      and `.png`.

  Returns:
    `steps` and `suspects`, as in `audit.json`: one dictionary per cell, the
    most suspect first. If there are unlabelled images, also `unlabelled`, as
    `disagreement.rank_images` returns it.

  Raises:
    ConfigError: There are fewer than three images with cells, they have changed
      since the first run, or a field is invalid.
    LabelError: Training images or labels are faulty, or an unlabelled image has
      the wrong channels or NaN.
    ImageFileError: An unlabelled image cannot be read.
    TrainingError: Too many updates in a row were skipped.
    Interrupted: A signal asked to stop; the current runs are saved.
  """
  held = leave_one_out(config, out)
  suspects = rank([found for one in held for found in suspects_of(one)])
  report: dict[str, Any] = {
    'steps': config.training.steps,
    'suspects': [
      {'rank': number, **dataclasses.asdict(suspect)}
      for number, suspect in enumerate(suspects, 1)
    ],
  }
  replace_json(out / 'audit.json', report)
  tables.write_csv(out / 'audit.csv', report['suspects'])
  figures.suspects(out / 'audit.png', suspects[:DRAWN], held)
  if unlabelled:
    model = ensemble([one.model for one in held])
    report['unlabelled'] = disagreement.rank_images(model, unlabelled, out)
  return report


def suspects_of(held: HeldOut) -> list[Suspect]:
  """Measures the cells of one held-out image at the network's scale.

  Args:
    held: The image, its model and the model's prediction.

  Returns:
    Suspects in no particular order; positions and areas are in pixels of the
    image.
  """
  labels = held.image.labels
  shape = resampled_shape(labels.shape, held.model.config.data.resample)
  found = regions(
    resample_labels(labels, shape), resample_labels(held.predicted, shape)
  )
  pool = build_pool([held.image], held.model.config)
  suspects = measure(
    held.image.name,
    found,
    *pixel_losses(held.model, pool),
    gradient_norms(held.model, pool, found),
  )
  scale = np.divide(labels.shape, shape)
  return [
    dataclasses.replace(
      suspect,
      row=round(suspect.row * scale[0], 1),
      column=round(suspect.column * scale[1], 1),
      area=round(suspect.area * scale.prod()),
    )
    for suspect in suspects
  ]


def summary(report: dict[str, Any], most: int = 10) -> str:
  """Formats the most suspect cells and the ranked images as text.

  Args:
    report: The report, as `audit` returns it.
    most: Maximum number of suspects.
  """
  lines = [
    f'{one["rank"]}. {one["image"]}, row {one["row"]:.0f}, column '
    f'{one["column"]:.0f}: '
    + (
      f'label {one["value"]}'
      if one['kind'] == 'label'
      else 'a cell without a label'
    )
    + f', loss {one["loss"]:.0f}'
    for one in report['suspects'][:most]
  ]
  lines += [
    f'{name}: disagreement {value:.4f}'
    for name, value in report.get('unlabelled', {}).items()
  ]
  return '\n'.join(lines)
