"""What checkpoints are tested for before they are used."""

from collections.abc import Callable, Iterator
import contextlib
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from cellseg_jax.inside import inside
from cellseg_jax.training import manifest

# What Orbax writes while a checkpoint takes its place; the manifest has them
# when that is seen to be done.
WRITTEN_LAST = ('_CHECKPOINT_METADATA', 'commit_success.txt')


class CheckpointError(ValueError):
  """A checkpoint cannot be read, or does not fit its config."""


@contextlib.contextmanager
def reading(folder: pathlib.Path, what: str = 'a checkpoint') -> Iterator[None]:
  """Turns what Orbax raises into a `CheckpointError` with the folder.

  On what it did not write itself it raises what it likes.
  """
  try:
    yield
  except Exception as error:
    raise CheckpointError(
      f'{folder}: {what} cannot be read ({type(error).__name__}: {error})'
    ) from error


def check_all(folder: pathlib.Path, tell: Callable[[str], None] | None) -> None:
  """Compares all checkpoints with their manifests.

  Args:
    folder: Holds them, a sub-folder a step.
    tell: As for `Checkpoints`.

  Raises:
    CheckpointError: As `Checkpoints`.
    OutsideError: The folder to move them to is a link that leads out.
  """
  damaged, whole = {}, 0
  for path in sorted(folder.glob('[0-9]*')):
    if not path.name.isdecimal():  # A save in progress, or one that was killed.
      continue
    try:
      manifest.verify(path, perhaps=WRITTEN_LAST)
      whole += 1
    except (manifest.ManifestError, OSError) as error:
      if path.exists():  # Else a run that goes on has just replaced it.
        damaged[path] = error
  for path, reason in damaged.items():
    if tell is None or not whole:
      advice = (
        'started again, the same training command goes on from the one before'
        if whole
        else 'there is no other; to start anew, choose another --workdir'
      )
      raise CheckpointError(
        f'the checkpoint of step {path.name} cannot be trusted: {reason}; '
        f'{advice}'
      ) from reason
    aside = inside(folder.parent, f'{folder.name}_damaged/{path.name}')
    aside.parent.mkdir(exist_ok=True)
    if aside.exists():
      shutil.rmtree(aside)
    path.rename(aside)
    tell(
      f'the checkpoint of step {path.name} cannot be trusted: {reason}; it was '
      f'moved to {aside}, and the one before is used'
    )


def check_shape(path: Any, like: np.ndarray, found: np.ndarray) -> None:
  """Refuses an array of another shape, naming its place in the tree."""
  if like.shape != found.shape:
    raise ValueError(
      f'{jax.tree_util.keystr(path)} has shape {found.shape}, '
      f'expected {like.shape}'
    )
