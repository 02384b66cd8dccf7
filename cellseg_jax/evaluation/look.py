"""What a model makes of single labelled images, to be looked at."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation.assess import maps_of
from cellseg_jax.inference.confidence import confidence
from cellseg_jax.inference.decode import decode, Settings
from cellseg_jax.inference.predict import Model

# Images that are looked at, and their pixels in all: they are held together.
MOST_IMAGES = 12
MOST_PIXELS = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
  """An image, or the box of it that counts, with what was found.

  Attributes:
    name: The image's.
    image: Intensities (H, W) or (H, W, C), as in the file.
    valid: bool (H, W), the pixels that count; elsewhere there are no cells.
    true: The labels, int32 (H, W).
    found: The decoded cells, int32 (H, W).
    confidence: Of each found cell by its value, from 0 to 1.
    probability: Of being cell, float32 (H, W).
  """

  name: str
  image: np.ndarray
  valid: np.ndarray
  true: np.ndarray
  found: np.ndarray
  confidence: dict[int, float]
  probability: np.ndarray


def look(model: Model, labelled: LabelledImage, settings: Settings) -> Look:
  """Segments a labelled image.

  Args:
    model: Its own settings are not used.
    labelled: The image; at least one pixel is valid.
    settings: The decoder's, by name.
  """
  # Settings are leaves of the model: with them, its program is another one
  # than that of the evaluation.
  maps = maps_of(model.replace(settings={}), labelled)
  found = decode(maps, model.config.decoding, settings)
  sure = confidence(found, maps)
  box = _box(labelled.valid)
  valid = labelled.valid[box]
  return Look(
    name=labelled.name,
    image=labelled.image[box],
    valid=valid,
    true=np.where(valid, labelled.labels[box], 0),
    found=np.where(valid, found[box], 0),
    confidence=dict(enumerate(sure.tolist(), start=1)),
    probability=maps['foreground'][box],
  )


def chosen(images: Sequence[LabelledImage]) -> list[LabelledImage]:
  """Chooses the images to look at: all, or some evenly spread over them."""
  images = [image for image in images if image.valid.any()]
  largest = max((image.labels.size for image in images), default=1)
  most = min(MOST_IMAGES, max(1, MOST_PIXELS // largest))
  if len(images) <= most:
    return images
  return [images[int((i + 0.5) * len(images) / most)] for i in range(most)]


def _box(valid: np.ndarray) -> tuple[slice, slice]:
  """The smallest box of rows and columns that holds all that is valid."""
  rows = np.flatnonzero(valid.any(1))
  columns = np.flatnonzero(valid.any(0))
  return (
    slice(int(rows[0]), int(rows[-1]) + 1),
    slice(int(columns[0]), int(columns[-1]) + 1),
  )
