"""Loads the labelled images of a run, split into training and validation.

This is the entry point of the data sets: it prepares a data set once, and then
reads its images from the prepared copy.
"""

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
    train: Images to train on. If `apart`, they are read on every access and
      not cached. As `load` returns them, at least one has a valid pixel of a
      cell.
    validation: Images to choose settings on.
    validation_source: Origin of the validation images, as text for messages.
    warnings: Warnings to the user before training, one per kind.
    apart: Whether validation uses separate images, rather than crops of the
      training images or the training images themselves.
    digest: SHA-256 (hex) of all files and settings behind the prepared copy.
    files: SHA-256 (hex) of every file of these splits, by its path in
      `data.path`.
    pixel_size: Side of a training image's pixel in um; 0 if the files do not
      state it or differ.
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
  """Loads the images of a run, preparing the data set if necessary.

  Args:
    data: The data set, and how to split it.

  Returns:
    Training and validation images. If there are no validation images, crops of
    the training images are held out for validation.

  Raises:
    ConfigError: A field, named in the message, does not agree with the files.
    LabelError: Files cannot be trained on, and the message names the first ten
      and their faults; or the training images have no labelled cell.
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
  """Loads the images of a run as `load` does, but holds out no crops.

  Args:
    data: The data set, and how to split it.

  Returns:
    Unchanged training images, and validation images if there are any.

  Raises:
    ConfigError: A field, named in the message, does not agree with the files.
    LabelError: Files cannot be trained on, and the message names the first ten
      and their faults; or the data set has no labelled cell.
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
  """Holds out some training images, evenly spread over their order.

  Args:
    train: Training images, in order.
    count: Number of images to hold out.

  Returns:
    The remaining training images, and those held out.

  Raises:
    ConfigError: No training image would remain.
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
    names: Names of the images to train on.

  Returns:
    The named images and the others, both in the order of `train`.

  Raises:
    ConfigError: There is no image of a given name; the message lists the names
      that exist.
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
  """Holds out one corner, a quarter of the area, of every training image.

  The corner changes from image to image. A corner is skipped if it would leave
  no cell inside or none outside; an image without a suitable corner stays
  whole. If no image has one, all images are used for both training and
  validation.

  Args:
    train: Training images, in order.

  Returns:
    The training images, with the held-out corners marked as not valid; the
    images with a held-out corner, valid only there and not where a cell is cut,
    with all other labels removed; and the origin of the latter, as text for
    messages.
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
  """Returns the image valid only inside one corner, and valid only outside."""
  height, width = image.labels.shape
  rows = slice(0, height // 2) if corner < 2 else slice(height // 2, height)
  columns = (
    slice(0, width // 2) if corner % 2 == 0 else slice(width // 2, width)
  )
  held = np.zeros(image.labels.shape, bool)
  held[rows, columns] = True
  # A cell that the corner's border cuts cannot be scored as found or missed.
  cut = np.intersect1d(image.labels[held], image.labels[~held])
  whole = held & ~np.isin(image.labels, cut[cut != 0])
  inside = dataclasses.replace(
    image,
    labels=np.where(whole, image.labels, 0),
    valid=image.valid & whole,
  )
  return inside, dataclasses.replace(image, valid=image.valid & ~held)


def _pixel_size(builder: type[LabelledImages], data: DataConfig) -> float:
  """Returns the side of a pixel in um, on which all training files agree.

  Returns:
    The mean; 0 if a file does not state it, or if the sizes along both axes of
    all files differ by more than 1 %.
  """
  sizes = []
  for pair in builder.listing(data).splits[data.train_split]:
    for path in pair.files[:1]:
      try:
        with open_image(path, max_pixels=data.max_pixels) as image:
          sizes.append(image.pixel_size or (0.0, 0.0))
      except ImageFileError:
        return 0.0  # Its axes are ambiguous, and so is its pixel size.
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
