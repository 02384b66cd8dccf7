"""A folder of your own images and labels."""

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
  """TFDS builder `labelled_folder`: `images/` and `labels/` with equal stems.

  They lie in `train/`, `validation/`, `test/`, or, without such folders,
  directly in `config.data.path`, which is then the split `train`.
  """

  name = 'labelled_folder'

  @classmethod
  def listing(cls, data: DataConfig) -> Listing:
    """Matches images and labels by their stems."""
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
  """Reads an image file and its label file, as they are.

  Raises:
    ImageFileError: One of them cannot be read, or has more values than
      `max_pixels`; the message names it.
  """
  return (
    read_image(image, max_pixels=max_pixels),
    read_labels(labels, max_pixels=max_pixels),
  )


def _split_folders(root: pathlib.Path) -> dict[str, pathlib.Path]:
  """Finds the folder of each split."""
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
  """Pairs files of equal stems; also returns the files without a partner."""
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
  """Refuses two files of one stem: which is meant cannot be known."""
  found: dict[str, pathlib.Path] = {}
  for path in paths:
    if path.stem in found:
      raise LabelError(
        f'{path}: duplicate name, there is also {found[path.stem].name}; keep '
        'one of them'
      )
    found[path.stem] = path
  return found
