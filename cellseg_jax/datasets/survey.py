"""What a run must know of all training images, found in one pass."""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cellseg_jax.datasets.labelled_image import LabelledImage


class Survey(NamedTuple):
  """Of the training images.

  Attributes:
    shapes: Height and width of each image in pixels.
    areas: int64 (K,), pixels of every labelled cell of all images.
  """

  shapes: tuple[tuple[int, int], ...]
  areas: np.ndarray


def survey(images: Iterable[LabelledImage]) -> Survey:
  """Looks at every image once."""
  shapes, areas = [], []
  for image in images:
    shapes.append(image.labels.shape)
    labels = image.labels[image.valid & (image.labels > 0)]
    areas.append(np.unique(labels, return_counts=True)[1])
  return Survey(tuple(shapes), np.concatenate(areas))
