"""Segmentation of single labelled images, for the pictures of the report."""

from collections.abc import Sequence
import dataclasses

import numpy as np

from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation import matching
from cellseg_jax.evaluation.assess import maps_of
from cellseg_jax.inference.confidence import confidence
from cellseg_jax.inference.decode import decode, Settings
from cellseg_jax.inference.predict import Model

# Limits on the number of images and on their pixels in total, as the results of
# all images are in memory together.
MOST_IMAGES = 12
MOST_PIXELS = 2**24


@dataclasses.dataclass(frozen=True, eq=False)
class Look:
  """A labelled image and its segmentation, cropped to its valid pixels.

  Attributes:
    name: Name of the image.
    image: Intensities (H, W) or (H, W, C), as in the file.
    valid: bool (H, W), the pixels that count; elsewhere the label images are 0.
    true: The labels, int32 (H, W).
    found: The decoded cells, int32 (H, W).
    confidence: Confidence of each found cell by its label, 0 to 1.
    probability: Foreground probability, float32 (H, W).
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
    model: The model; its own decoder settings are not used.
    labelled: The image; at least one pixel must be valid.
    settings: The decoder's settings by name.
  """
  # Settings are leaves of the model. Without them, the program that evaluation
  # compiled is used again.
  maps = maps_of(model.replace(settings={}), labelled)
  found = decode(maps, model.config.decoding, settings)
  sure = confidence(found, maps)
  box = _box(labelled.valid)
  valid = labelled.valid
  true, found = matching.scored(labelled.labels, found, valid)
  return Look(
    name=labelled.name,
    image=labelled.image[box],
    valid=valid[box],
    true=true[box],
    found=found[box],
    confidence=dict(enumerate(sure.tolist(), start=1)),
    probability=maps['foreground'][box],
  )


def chosen(images: Sequence[LabelledImage]) -> list[LabelledImage]:
  """Chooses images to show: all, or an evenly spread subset within limits.

  Images without a valid pixel are left out.
  """
  images = [image for image in images if image.valid.any()]
  largest = max((image.labels.size for image in images), default=1)
  most = min(MOST_IMAGES, max(1, MOST_PIXELS // largest))
  if len(images) <= most:
    return images
  return [images[int((i + 0.5) * len(images) / most)] for i in range(most)]


def _box(valid: np.ndarray) -> tuple[slice, slice]:
  """Returns the bounding box of the valid pixels, as rows and columns."""
  rows = np.flatnonzero(valid.any(1))
  columns = np.flatnonzero(valid.any(0))
  return (
    slice(int(rows[0]), int(rows[-1]) + 1),
    slice(int(columns[0]), int(columns[-1]) + 1),
  )
