"""Checks that an exported file computes what the model computes.

Every exporter runs its file on a simulated image before the file takes its
place, and compares the result with that of the model.
"""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from cellseg_jax.config import map_names
from cellseg_jax.datasets.simulated import simulate_colony
from cellseg_jax.evaluation import scores
from cellseg_jax.images import normalize
from cellseg_jax.inference.predict import maps_of_normalized, Model

# Largest difference of map values (0 to 1) that a different order of additions
# may explain.
BOUND = 1e-4
# Minimum F1 of labels at IoU 0.9, for files that compute labels.
LEAST_F1 = 0.99
# Odd sides, so that none is a multiple of the stride.
SHAPE = (301, 333)
IMAGE = f'simulated colony, {SHAPE[0]}x{SHAPE[1]}'


class AgreementError(RuntimeError):
  """An exported file does not compute what the model computes."""


def sample_image(model: Model) -> np.ndarray:
  """Simulates the image on which exported files are checked.

  Args:
    model: Determines the number of channels C, each a different simulation.

  Returns:
    float32 (301, 333) for one channel, else (301, 333, C), in camera counts.
  """
  height, width = SHAPE
  channels = []
  for seed in range(model.config.data.channels):
    image, labels = simulate_colony(seed)
    # Cropped around the cells, since colonies do not fill the field.
    rows, columns = np.nonzero(labels)
    top = min(max(int(rows.mean()) - height // 2, 0), len(image) - height)
    left = min(max(int(columns.mean()) - width // 2, 0), len(image) - width)
    channels.append(image[top : top + height, left : left + width])
  image = np.stack(channels, -1).astype(np.float32)
  return image[..., 0] if len(channels) == 1 else image


def normalized_pixels(model: Model, image: np.ndarray) -> np.ndarray:
  """Normalises an image as the model does, for files that take such pixels.

  Args:
    model: Determines the number of channels C and the normalisation.
    image: Raw intensities, (H, W) for one channel, else (H, W, C).

  Returns:
    float32 (1, C, H, W), about 0 to 1.
  """
  channels = model.config.data.channels
  raw = jnp.asarray(image, jnp.float32).reshape(*image.shape[:2], channels)
  pixels = _normalize(raw, model.config.intensity)
  return np.asarray(pixels).transpose(2, 0, 1)[None]


def maps_of_pixels(model: Model, pixels: np.ndarray) -> dict[str, np.ndarray]:
  """Computes the model's maps of normalised pixels.

  Args:
    model: A model that `load_model` or `ensemble` returned.
    pixels: float32 (B, C, H, W), normalised.

  Returns:
    The maps by name, float32 (B, H, W), 0 to 1, without averaging over turns.
  """
  maps = np.asarray(_maps(model, jnp.asarray(pixels.transpose(0, 2, 3, 1))))
  names = map_names(model.config.model)
  return {name: maps[..., i] for i, name in enumerate(names)}


def worst_difference(
  ours: Mapping[str, np.ndarray], theirs: Mapping[str, np.ndarray]
) -> float:
  """Returns the largest absolute difference over all pixels of all maps.

  Args:
    ours: The model's maps by name.
    theirs: The file's maps by name.

  Raises:
    AgreementError: Names or shapes differ, or a value is NaN.
  """
  if set(ours) != set(theirs):
    raise AgreementError(
      f'the file has the maps {sorted(theirs)}, the model {sorted(ours)}'
    )
  worst = 0.0
  for name, values in ours.items():
    if values.shape != theirs[name].shape:
      raise AgreementError(
        f'map {name} of the file is {theirs[name].shape}, of the model '
        f'{values.shape}'
      )
    difference = float(np.abs(values - theirs[name]).max())
    if np.isnan(difference):
      raise AgreementError(f'map {name} holds NaN')
    worst = max(worst, difference)
  return worst


def f1_of_labels(ours: np.ndarray, theirs: np.ndarray) -> float:
  """Computes how many cells of two label images are almost the same.

  Args:
    ours: The model's labels, int (B, H, W); 0 is background.
    theirs: The file's labels, of the same shape.

  Returns:
    F1 at an intersection over union of 0.9, over all images; 1 if neither has a
    cell.
  """
  if not ours.any() and not theirs.any():
    return 1.0
  counts = [scores.count(*pair) for pair in zip(ours, theirs, strict=True)]
  found: dict[str, Any] = scores.metrics(scores.pool(counts))
  return found['f1']['0.9']


def check(worst: float, bound: float = BOUND) -> None:
  """Refuses a file whose maps differ too much from the model's.

  Args:
    worst: The difference that `worst_difference` returned.
    bound: The largest allowed difference.

  Raises:
    AgreementError: The difference is larger.
  """
  if worst > bound:
    raise AgreementError(
      f'the largest difference of maps between file and model is {worst:.1e}, '
      f'more than {bound:.0e}; nothing was written'
    )


def check_labels(f1: float) -> None:
  """Refuses a file whose labels differ too much from the model's.

  Args:
    f1: The F1 that `f1_of_labels` returned.

  Raises:
    AgreementError: The F1 is below `LEAST_F1`.
  """
  if f1 < LEAST_F1:
    raise AgreementError(
      f'the F1 of labels of the file, at IoU 0.9 with those of the model, is '
      f'{f1:.4f}, less than {LEAST_F1}; nothing was written'
    )


_normalize = jax.jit(normalize.normalize, static_argnums=1)
_maps = jax.jit(maps_of_normalized)
