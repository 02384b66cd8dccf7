"""The data set `labelled_folder`: a user's own folder of images and labels."""

from collections.abc import Iterable
import functools
import pathlib

import numpy as np

from cellseg_jax.config import ConfigError, DataConfig
from cellseg_jax.datasets.builder import LabelledImages, Listing, Pair
from cellseg_jax.images.formats import list_images, read_image, read_labels
from cellseg_jax.images.labels import LabelError

SPLITS = ('train', 'validation', 'test')

_LAYOUT = (
  'expected images/ and labels/ with files of equal names, in train/, '
  'validation/ and test/ or directly in the folder'
)


class LabelledFolder(LabelledImages):
  """TFDS builder `labelled_folder`: image and label files with equal stems.

  The folders `images/` and `labels/` lie in `train/`, `validation/` and
  `test/`; or, without such folders, directly in `config.data.path`, which is
  then the split `train`.
  """

  name = 'labelled_folder'

  @classmethod
  def listing(cls, data: DataConfig) -> Listing:
    """Lists the pairs of image and label file with equal stems.

    Files without a partner are left out, with a warning.

    Args:
      data: Names the folder.

    Raises:
      ConfigError: A folder is missing, the layout is ambiguous, or a split has
        no pair.
      LabelError: Two files in one folder have the same stem.
    """
    root = pathlib.Path(data.path)
    splits, unmatched = {}, []
    for split, folder in _split_folders(root).items():
      splits[split], lonely = _match(folder, data.max_pixels)
      unmatched += [str(path.relative_to(root)) for path in lonely]
    warnings: tuple[str, ...] = ()
    if unmatched:
      shown = ', '.join(unmatched[:3]) + (', ...' if unmatched[3:] else '')
      warnings = (
        'files left out, without a partner of the same name: '
        f'{len(unmatched)} ({shown})',
      )
    return Listing(splits, warnings=warnings)


def read_pair(
  image: pathlib.Path, labels: pathlib.Path, max_pixels: int
) -> tuple[np.ndarray, np.ndarray]:
  """Reads an image file and its label file without changing their values.

  Args:
    image: The image file.
    labels: The label file.
    max_pixels: Maximum number of values per file.

  Returns:
    The raw image and the raw labels.

  Raises:
    ImageFileError: A file, named in the message, cannot be read or has more
      than `max_pixels` values.
  """
  return (
    read_image(image, max_pixels=max_pixels),
    read_labels(labels, max_pixels=max_pixels),
  )


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Returns the folder of each split that exists.

  Raises:
    ConfigError: A folder is missing, or both layouts are mixed.
  """
  if not root.is_dir():
    raise ConfigError(f'config.data.path: there is no folder {root}; {_LAYOUT}')
  splits = {name: root / name for name in SPLITS if (root / name).is_dir()}
  flat = (root / 'images').is_dir() or (root / 'labels').is_dir()
  if splits and flat:
    raise ConfigError(
      f'config.data.path: {root} holds {", ".join(splits)} and also images or '
      'labels of its own; keep one of the two layouts'
    )
  splits = splits or {'train': root}
  for folder in splits.values():
    for part in ('images', 'labels'):
      if not (folder / part).is_dir():
        raise ConfigError(
          f'config.data.path: there is no folder {folder / part}; {_LAYOUT}'
        )
  return splits


def _match(
  folder: pathlib.Path, max_pixels: int
) -> tuple[tuple[Pair, ...], list[pathlib.Path]]:
  """Pairs image and label files of equal stems.

  Returns:
    The pairs by name, and the files without a partner.

  Raises:
    ConfigError: There is no pair.
    LabelError: Two files in one folder have the same stem.
  """
  images = _by_stem(list_images(folder / 'images'))
  labels = _by_stem(list_images(folder / 'labels'))
  names = sorted(images.keys() & labels.keys())
  if not names:
    raise ConfigError(
      f'config.data.path: in {folder} none of {len(images)} images in images/ '
      f'and {len(labels)} in labels/ have equal names; {_LAYOUT}'
    )
  pairs = tuple(
    Pair(
      name,
      str(labels[name]),
      (images[name], labels[name]),
      functools.partial(read_pair, images[name], labels[name], max_pixels),
    )
    for name in names
  )
  lonely = images.keys() ^ labels.keys()
  return pairs, [(images | labels)[name] for name in sorted(lonely)]


def _by_stem(paths: Iterable[pathlib.Path]) -> dict[str, pathlib.Path]:
  """Returns files by their stems.

  Raises:
    LabelError: Two files have the same stem, so that pairing is ambiguous.
  """
  found: dict[str, pathlib.Path] = {}
  for path in paths:
    if path.stem in found:
      raise LabelError(
        f'{path}: duplicate name, there is also {found[path.stem].name}; keep '
        'one of them'
      )
    found[path.stem] = path
  return found
