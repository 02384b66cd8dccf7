"""Loads the labelled images of a run: what to train on, what to choose on."""

from collections.abc import Mapping, Sequence
import dataclasses

import numpy as np

from cellseg_jax.config import ConfigError, DataConfig
from cellseg_jax.datasets.builder import LabelledImages
from cellseg_jax.datasets.folder import LabelledFolder
from cellseg_jax.datasets.labelled_image import LabelledImage, LazyImages
from cellseg_jax.datasets.prepared import prepare
from cellseg_jax.datasets.public import (
  Bbbc038,
  CellTrackingChallenge,
  SBsst265,
)
from cellseg_jax.datasets.simulated import SimulatedColonies
from cellseg_jax.images.errors import ImageFileError
from cellseg_jax.images.labels import LabelError
from cellseg_jax.images.source import open_image

BUILDERS: dict[str, type[LabelledImages]] = {
  builder.name: builder
  for builder in (
    SimulatedColonies,
    LabelledFolder,
    SBsst265,
    Bbbc038,
    CellTrackingChallenge,
  )
}

Images = Sequence[LabelledImage]


@dataclasses.dataclass(frozen=True, eq=False)
class Splits:
  """The images of a run.

  Attributes:
    train: Images to train on; at least one has a valid pixel of a cell. They
      are read when they are looked at, and not kept, if `apart`.
    validation: Images to choose settings on.
    validation_source: Where those come from, as text for people.
    warnings: What to tell the user before training, one kind each.
    apart: Whether no training image is validated on.
    digest: SHA-256 (hex) of all files and settings behind the prepared copy.
    files: SHA-256 (hex) of every file that these images come from, by its path
      in `data.path`.
    pixel_size: Side of a training image's pixel in um; 0 if the files do not
      say, or do not agree.
  """

  train: Images
  validation: Images
  validation_source: str
  warnings: tuple[str, ...]
  digest: str
  files: Mapping[str, str]
  pixel_size: float = 0.0
  apart: bool = True


def load(data: DataConfig) -> Splits:
  """Prepares the data set if need be, checks it, and loads its images.

  Args:
    data: Which set, and how to split it.

  Returns:
    Training and validation images. Without a validation split, settings are
    chosen on held-out crops of the training images.

  Raises:
    ConfigError: Names the field that the files do not bear out.
    LabelError: Names the files that cannot be trained on, and their faults.
  """
  splits = load_whole(data)
  train, validation = splits.train, splits.validation
  source = splits.validation_source
  if not validation:
    train, validation, source = hold_out_crops(train)
  if not any((image.valid & (image.labels > 0)).any() for image in train):
    raise LabelError(
      f'{data.path or data.dataset}: no cell in the {len(train)} images of '
      f'split {data.train_split!r} that are left to train on'
    )
  return dataclasses.replace(
    splits, train=train, validation=validation, validation_source=source
  )


def load_whole(data: DataConfig) -> Splits:
  """Loads as `load` does, but holds no crops out.

  Returns:
    Training images as they are, and validation images if there are any.

  Raises:
    ConfigError, LabelError: As `load`.
  """
  builder, digest, files = prepare(BUILDERS[data.dataset], data)
  names = tuple(builder.info.splits)
  _require_split('train_split', data.train_split, names)
  train: Sequence[LabelledImage] = _read(builder, data.train_split)
  validation: Images = ()
  source = ''
  chosen = data.validation_split or 'validation'
  if data.validation_split and not (data.held_out and chosen == 'validation'):
    _require_split('validation_split', chosen, names)
  if chosen in names:
    validation = tuple(_read(builder, chosen))
    source = f'split {chosen!r}'
  if data.held_out:
    train, held_out = hold_out(train, data.held_out)
    validation = (*validation, *held_out)
    held = 'held-out training images'
    source = f'{source} and {held}' if source else held
  if data.train_images:
    train, others = pick(train, data.train_images.split(','))
    if others and not validation:
      validation, source = others, 'other training images'
  warnings = tuple(builder.info.metadata['warnings'])
  return Splits(
    train,
    validation,
    source,
    warnings,
    digest,
    {**files[''], **files[data.train_split], **files.get(chosen, {})},
    _pixel_size(BUILDERS[data.dataset], data),
    bool(validation),
  )


def hold_out(
  train: Sequence[LabelledImage], count: int
) -> tuple[Images, Images]:
  """Splits images evenly spread over the sorted names off the training set.

  Args:
    train: Training images, in order.
    count: How many to hold out, below their number.

  Returns:
    What is left to train on, and what was held out.

  Raises:
    ConfigError: There are not that many images.
  """
  if count >= len(train):
    raise ConfigError(
      f'config.data.held_out is {count}, but there are {len(train)} training '
      f'images and one at least must be left; hold out at most '
      f'{len(train) - 1}'
    )
  held = [int((i + 0.5) * len(train) / count) for i in range(count)]
  left = sorted(set(range(len(train))) - set(held))
  return LazyImages(train.__getitem__, left), tuple(train[i] for i in held)


def pick(
  train: Sequence[LabelledImage], names: Sequence[str]
) -> tuple[Images, Images]:
  """Splits training images into those of the given names and the others.

  Args:
    train: Training images, in order.
    names: Of those to train on.

  Returns:
    Both in their order.

  Raises:
    ConfigError: There is no image of a name; the message lists those there are.
  """
  known = [image.name for image in train]
  unknown = [name for name in names if name not in known]
  if unknown:
    raise ConfigError(
      f'config.data.train_images: there is no training image {unknown[0]!r}; '
      f'there are {", ".join(known)}'
    )
  places = [i for i, name in enumerate(known) if name in names]
  others = [i for i, name in enumerate(known) if name not in names]
  return LazyImages(train.__getitem__, places), tuple(train[i] for i in others)


def hold_out_crops(
  train: Sequence[LabelledImage],
) -> tuple[Images, Images, str]:
  """Holds out a corner, a quarter of the area, of every training image.

  The corner moves on from image to image; one is skipped where it would leave
  no cell on either side, and an image without such a corner stays whole.

  Args:
    train: Training images, in order.

  Returns:
    The training images, not valid in their corner; the same images, valid only
    there (and not where a cell is cut), with the other labels removed; and what
    was done, as text for people.
  """
  kept, held = [], []
  for i, image in enumerate(train):
    for corner in range(i, i + 4):
      inside, outside = _split_corner(image, corner % 4)
      if all(
        (part.valid & (part.labels > 0)).any() for part in (inside, outside)
      ):
        kept.append(outside)
        held.append(inside)
        break
    else:
      kept.append(image)
  if held:
    return tuple(kept), tuple(held), 'held-out crops of the training images'
  text = 'the training images themselves (too few cells to hold some out)'
  whole = tuple(train)
  return whole, whole, text


def _split_corner(
  image: LabelledImage, corner: int
) -> tuple[LabelledImage, LabelledImage]:
  """Returns the image valid inside one corner, and valid outside it."""
  height, width = image.labels.shape
  rows = slice(0, height // 2) if corner < 2 else slice(height // 2, height)
  columns = (
    slice(0, width // 2) if corner % 2 == 0 else slice(width // 2, width)
  )
  held = np.zeros(image.labels.shape, bool)
  held[rows, columns] = True
  # A cell that the border cuts cannot be scored, neither found nor missed.
  cut = np.intersect1d(image.labels[held], image.labels[~held])
  whole = held & ~np.isin(image.labels, cut[cut != 0])
  inside = dataclasses.replace(
    image,
    labels=np.where(whole, image.labels, 0),
    valid=image.valid & whole,
  )
  return inside, dataclasses.replace(image, valid=image.valid & ~held)


def _pixel_size(builder: type[LabelledImages], data: DataConfig) -> float:
  """The side of a pixel that all training images state, in um; else 0."""
  sizes = []
  for pair in builder.listing(data).splits[data.train_split]:
    for path in pair.files[:1]:
      try:
        with open_image(path, max_pixels=data.max_pixels) as image:
          sizes.append(image.pixel_size or (0.0, 0.0))
      except ImageFileError:
        return 0.0  # Its axes are not stated; nor is this.
  if not sizes or np.ptp(sizes) > 0.01 * np.max(sizes):
    return 0.0
  return round(float(np.mean(sizes)), 6)


def _require_split(field: str, name: str, names: Sequence[str]) -> None:
  if name not in names:
    raise ConfigError(
      f'config.data.{field}: there is no split {name!r}; the data set has '
      f'{", ".join(names)}'
    )


def _read(builder: LabelledImages, split: str) -> LazyImages:
  source = builder.as_data_source(split=split)

  def read(place: int) -> LabelledImage:
    example = source[place]
    return LabelledImage(
      name=example['name'].decode(),
      image=np.asarray(example['image']),
      labels=np.asarray(example['labels']),
      valid=np.asarray(example['valid']),
    )

  return LazyImages(read, range(len(source)))
