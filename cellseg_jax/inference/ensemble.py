"""Several models of one architecture as one, whose maps are their mean."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

from cellseg_jax import serialization
from cellseg_jax.config import Config
from cellseg_jax.inference.predict import Model


class EnsembleError(ValueError):
  """Models cannot be members of one ensemble."""


# What must be alike for maps to have one meaning and variables one shape.
_ALIKE = (
  'data.channels',
  'data.resample',
  'intensity.',
  'model.',
  'decoding.',
)


def ensemble(models: Sequence[Model]) -> Model:
  """Stacks models; the maps that are predicted are the mean of theirs.

  Models of other seeds err in other places (Lakshminarayanan et al., NeurIPS
  2017). The time is that of all members one after another on CPUs, of one
  program for all elsewhere.

  Args:
    models: At least one, none of them an ensemble.

  Returns:
    A model with the mean of the members' decoder settings.

  Raises:
    EnsembleError: There is none, one is an ensemble, or their networks, scales
      or decoders differ.
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


def _check_alike(one: Config, other: Config) -> None:
  theirs = serialization.flat(other)
  differing = [
    f'config.{field} ({value!r} and {theirs[field]!r})'
    for field, value in serialization.flat(one).items()
    if field.startswith(_ALIKE) and value != theirs[field]
  ]
  if differing:
    raise EnsembleError(
      f'models of one ensemble must agree in {", ".join(differing)}'
    )
