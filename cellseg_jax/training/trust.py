"""Which checkpoints are what they were when they were saved."""

from collections.abc import Callable
import pathlib
import shutil

from cellseg_jax.training import manifest

# What Orbax writes while a checkpoint takes its place; the manifest has them
# when that is seen to be done.
WRITTEN_LAST = ('_CHECKPOINT_METADATA', 'commit_success.txt')


class CheckpointError(ValueError):
  """A checkpoint cannot be read, or does not fit its config."""


def check_all(folder: pathlib.Path, tell: Callable[[str], None] | None) -> None:
  """Compares all checkpoints with their manifests; moves damaged ones aside.

  Args:
    folder: Holds the checkpoints, one sub-folder a step.
    tell: Called with a sentence for each damaged one; without it such a
      checkpoint is an error.

  Raises:
    CheckpointError: A checkpoint is damaged, or every one is.
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
  for path, error in damaged.items():
    if tell is None or not whole:
      advice = (
        'started again, the same training command goes on from the one before'
        if whole
        else 'there is no other; to start anew, choose another --workdir'
      )
      raise CheckpointError(
        f'the checkpoint of step {path.name} cannot be trusted: {error}; '
        f'{advice}'
      ) from error
    aside = folder.with_name(f'{folder.name}_damaged') / path.name
    aside.parent.mkdir(exist_ok=True)
    if aside.exists():
      shutil.rmtree(aside)
    path.rename(aside)
    tell(
      f'the checkpoint of step {path.name} cannot be trusted: {error}; it was '
      f'moved to {aside}, and the one before is used'
    )
