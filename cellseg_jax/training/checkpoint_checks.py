"""Integrity checks that checkpoints must pass before they are used.

`checkpoints` calls them: comparison with the manifest, array shapes, and the
conversion of Orbax's exceptions.
"""

from collections.abc import Callable, Iterator
import contextlib
import pathlib
import shutil
from typing import Any

import jax
import numpy as np

from cellseg_jax.inside import inside
from cellseg_jax.training import manifest

# Files that Orbax writes while it moves a checkpoint into place. They are added
# to the manifest only after that, so a manifest may lack them.
WRITTEN_LAST = ('_CHECKPOINT_METADATA', 'commit_success.txt')


class CheckpointError(ValueError):
  """A checkpoint is damaged, does not fit its config, or cannot be saved."""


@contextlib.contextmanager
def reading(folder: pathlib.Path, what: str = 'a checkpoint') -> Iterator[None]:
  """Converts any exception of the body to a `CheckpointError`.

  Orbax raises exceptions of arbitrary types on files that it did not write.

  Args:
    folder: The folder that the message names.
    what: What cannot be read, for the message.

  Raises:
    CheckpointError: The body raised an exception.
  """
  try:
    yield
  except Exception as error:
    raise CheckpointError(
      f'{folder}: {what} cannot be read ({type(error).__name__}: {error})'
    ) from error


def check_all(folder: pathlib.Path, tell: Callable[[str], None] | None) -> None:
  """Compares all checkpoints with their manifests.

  Damaged checkpoints are moved to a sibling folder, `FOLDER_damaged`, provided
  that `tell` is given and at least one checkpoint is intact.

  Args:
    folder: Folder of the checkpoints, one sub-folder per step.
    tell: Called with a sentence for each damaged checkpoint that is moved; None
      makes a damaged checkpoint an error.

  Raises:
    CheckpointError: A checkpoint is damaged and `tell` is None, or no
      checkpoint is intact.
    OutsideError: The folder for damaged checkpoints is a symbolic link that
      leads out of the run's folder.
  """
  damaged, whole = {}, 0
  for path in sorted(folder.glob('[0-9]*')):
    if not path.name.isdecimal():  # Of a save in progress, or of a killed one.
      continue
    try:
      manifest.verify(path, perhaps=WRITTEN_LAST)
      whole += 1
    except (manifest.ManifestError, OSError) as error:
      if path.exists():  # Otherwise an active run has just deleted it.
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
  """Raises ValueError, naming the place in the tree, if the shapes differ."""
  if like.shape != found.shape:
    raise ValueError(
      f'{jax.tree_util.keystr(path)} has shape {found.shape}, '
      f'expected {like.shape}'
    )
