"""Surveys all training images in one pass: image shapes and cell areas.

The areas resolve the config, and the shapes decide whether to stream.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from cellseg_jax.datasets.labelled_image import LabelledImage


class Survey(NamedTuple):
  """Shapes and cell areas of the training images.

  Attributes:
    shapes: Height and width of each image in pixels.
    areas: Number of valid pixels of every labelled cell of all images, int64
      (K,).
  """

  shapes: tuple[tuple[int, int], ...]
  areas: np.ndarray


def survey(images: Iterable[LabelledImage]) -> Survey:
  """Surveys images, reading each once.

  Args:
    images: At least one image.
  """
  shapes, areas = [], []
  for image in images:
    shapes.append(image.labels.shape)
    labels = image.labels[image.valid & (image.labels > 0)]
    areas.append(np.unique(labels, return_counts=True)[1])
  return Survey(tuple(shapes), np.concatenate(areas))
