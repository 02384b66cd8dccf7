"""Lists the files to segment, names their outputs and selects shards.

Also checks that outputs overwrite neither the images nor one another.
"""

from collections.abc import Sequence
import pathlib

from cellseg_jax.images import formats
from cellseg_jax.images.source import is_zarr


class InputError(ValueError):
  """The selection of input files or of the output folder is invalid."""


def find_images(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
  """Lists the image files among and in the given paths.

  Args:
    paths: Files, which are taken as they are; OME-Zarr folders, each of which
      is one image; and other folders, whose images are taken.

  Returns:
    The images in the order given, without duplicates; those of a folder are
    sorted by name.

  Raises:
    FileNotFoundError: A path does not exist.
    InputError: A folder contains no image.
  """
  found: list[pathlib.Path] = []
  for path in map(pathlib.Path, paths):
    if path.is_dir() and not is_zarr(path):
      images = formats.list_images(path, every_kind=True)
      if not images:
        raise InputError(
          f'{path}: no image in this folder (looked for '
          f'{", ".join(sorted(formats.SUFFIXES))}, OME-Zarr and files of '
          'microscopes)'
        )
      found += images
    elif path.exists():
      found.append(path)
    else:
      raise FileNotFoundError(f'{path}: no such file or folder')
  return list(dict.fromkeys(found))


def check_output(
  paths: Sequence[str | pathlib.Path], out: pathlib.Path
) -> None:
  """Checks that outputs would not be written among the images.

  Args:
    paths: The inputs, as for `find_images`.
    out: The output folder.

  Raises:
    InputError: The output folder is one of the inputs or lies within one.
  """
  for path in map(pathlib.Path, paths):
    if path.is_dir() and out.resolve().is_relative_to(path.resolve()):
      raise InputError(
        f'{out}: lies in {path}, which is to be segmented; choose another '
        'folder for --out'
      )


def output_names(
  images: Sequence[pathlib.Path], out: pathlib.Path, suffix: str
) -> list[str]:
  """Returns the base name, without suffix, of each image's outputs.

  Args:
    images: The images, as `find_images` returns them.
    out: The output folder.
    suffix: File name suffix of the label images.

  Raises:
    InputError: Two images have the same output name, or an output would
      overwrite an image.
  """
  names = [image.stem.removesuffix('.ome') for image in images]
  taken: dict[str, pathlib.Path] = {}
  sources = {image.resolve() for image in images}
  for image, name in zip(images, names, strict=True):
    target = out / f'{name}{suffix}'
    if name in taken:
      raise InputError(
        f'{taken[name]} and {image} would both be written to {target}; '
        'rename one, or segment them into different folders'
      )
    if target.resolve() in sources:
      raise InputError(
        f'{target} is one of the images; choose another folder for --out'
      )
    taken[name] = image
  return names


def shard(images: Sequence, part: int, parts: int) -> list:
  """Returns one shard: every `parts`-th image, starting from number `part`.

  Args:
    images: All images.
    part: Number of the shard, from 1.
    parts: Number of shards.
  """
  return list(images[part - 1 :: parts])
