"""Ensembles: several models of one architecture, used as a single model.

The predicted maps are the mean over the ensemble members; their standard
deviation can be returned too.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from jax.typing import ArrayLike

from cellseg_jax.config import Config
from cellseg_jax.inference.predict import (
  architecture,
  each_member,
  Model,
  predict_maps,
)
from cellseg_jax.model import fcn


class EnsembleError(ValueError):
  """The given models cannot form an ensemble."""


def ensemble(models: Sequence[Model]) -> Model:
  """Stacks models into an ensemble that predicts the mean of their maps.

  Models trained with different seeds err in different places (Lakshminarayanan
  et al., NeurIPS 2017), and averaging cancels part of these errors. On CPUs the
  members run one after another; on other devices, as one batched program.

  Args:
    models: At least one model, none of them an ensemble.

  Returns:
    The ensemble, whose decoder settings are the mean of the members' settings.
    A single model is returned as it is.

  Raises:
    EnsembleError: `models` is empty or contains an ensemble, or the members
      differ in their networks, scales or decoders.

  Examples:
    >>> import cellseg_jax
    >>> runs = ['runs/cells', 'runs/cells_seed1']
    >>> models = [cellseg_jax.load_model(run) for run in runs]
    >>> cellseg_jax.ensemble(models).members
    2
  """
  if not models:
    raise EnsembleError('an ensemble needs at least one model')
  if any(model.members > 1 for model in models):
    raise EnsembleError('a member of an ensemble must be a single model')
  first, *others = models
  for other in others:
    _check_alike(first.config, other.config)
  if not others:
    return first
  settings = {
    name: jnp.mean(jnp.stack([model.settings[name] for model in models]))
    for name in first.settings
  }
  variables = jax.tree.map(
    lambda *leaves: jnp.stack(leaves), *(model.variables for model in models)
  )
  return Model(variables, settings, first.config, len(models))


@jax.jit
def predict_with_disagreement(
  model: Model, images: ArrayLike
) -> tuple[dict[str, jax.Array], dict[str, jax.Array]]:
  """Computes all maps and their standard deviation over ensemble members.

  Pure: works under `jax.jit`, `jax.vmap` and `jax.grad`.

  Args:
    model: An ensemble, as `ensemble` returns it; for a single model the
      deviation is 0.
    images: Raw intensities, (..., H, W) for a model of one channel and
      (..., H, W, C) for a model of C channels; any leading axes.

  Returns:
    The mean of the members' maps by name, float32 (..., H, W), 0 to 1, as
    `predict_maps` returns it; and the population standard deviation over the
    members (divided by their number), float32 (..., H, W), 0 to 0.5.

  Raises:
    ValueError: The shape does not fit the model's channels.

  Examples:
    >>> import cellseg_jax
    >>> from skimage.io import imread
    >>> runs = ['runs/cells', 'runs/cells_seed1']
    >>> together = cellseg_jax.ensemble(
    ...   [cellseg_jax.load_model(run) for run in runs]
    ... )
    >>> image = imread('more_images/field5.tif')  # (H, W)
    >>> mean, spread = cellseg_jax.predict_with_disagreement(together, image)
    >>> doubt = spread['foreground']
    >>> doubt.shape == image.shape, bool(doubt.max() <= 0.5)
    (True, True)
  """

  def of_member(variables: fcn.Variables) -> dict[str, jax.Array]:
    return predict_maps(model.replace(variables=variables, members=1), images)

  every = each_member(model, of_member)
  return (
    {name: maps.mean(0) for name, maps in every.items()},
    {name: maps.std(0) for name, maps in every.items()},
  )


def _check_alike(one: Config, other: Config) -> None:
  """Raises `EnsembleError` if two configs differ in their architecture."""
  theirs = dict(architecture(other))
  differing = [
    f'config.{field} ({value!r} and {theirs[field]!r})'
    for field, value in architecture(one)
    if value != theirs[field]
  ]
  if differing:
    raise EnsembleError(
      f'models of one ensemble must agree in {", ".join(differing)}'
    )
