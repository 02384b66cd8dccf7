"""Label images for image files."""

from collections.abc import Sequence
import pathlib

import numpy as np

from cellseg_jax.images import formats
from cellseg_jax.inference.predict import Model, segment_with_confidence


class InputError(ValueError):
  """The files to segment cannot be what was meant."""


# What one faulty file raises; the others are segmented all the same.
FAULTS = (ValueError, OSError)


def find_images(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
  """Lists image files.

  Args:
    paths: Files, taken as they are, and folders, whose images are taken.

  Returns:
    The files, in the order given, each folder's sorted by name.

  Raises:
    FileNotFoundError: A path is not there.
    InputError: A folder holds no image.
  """
  found: list[pathlib.Path] = []
  for path in map(pathlib.Path, paths):
    if path.is_dir():
      images = formats.list_images(path)
      if not images:
        raise InputError(
          f'{path}: no image in this folder (looked for '
          f'{", ".join(sorted(formats.SUFFIXES))})'
        )
      found += images
    elif path.exists():
      found.append(path)
    else:
      raise FileNotFoundError(f'{path}: no such file or folder')
  return list(dict.fromkeys(found))


def output_paths(
  images: Sequence[pathlib.Path], out: pathlib.Path
) -> list[pathlib.Path]:
  """Returns `out/NAME.tif` for every image.

  Raises:
    InputError: Two would be written to one file, or one over its own image.
  """
  targets = [out / f'{image.stem}.tif' for image in images]
  taken: dict[pathlib.Path, pathlib.Path] = {}
  sources = {image.resolve() for image in images}
  for image, target in zip(images, targets, strict=True):
    if target in taken:
      raise InputError(
        f'{taken[target]} and {image} would both be written to {target}; '
        'rename one, or segment them into different folders'
      )
    if target.resolve() in sources:
      raise InputError(
        f'{target} is one of the images; choose another folder for --out'
      )
    taken[target] = image
  return targets


def segment_file(
  model: Model, image: pathlib.Path, target: pathlib.Path
) -> np.ndarray:
  """Segments one file.

  Args:
    model: As `load_model` returns.
    image: The file to read.
    target: The label image to write (TIFF).

  Returns:
    The confidence of cell 1 to n, float32 (n,), 0 to 1.

  Raises:
    ImageFileError: The file cannot be read.
    ValueError: The image does not fit the model.
    OSError: The label image cannot be written.
  """
  labels, (confidence,) = segment_with_confidence(
    model, formats.read_image(image)
  )
  formats.write_labels(target, labels)
  return confidence
