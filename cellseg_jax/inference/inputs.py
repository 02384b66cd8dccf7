"""Which files to segment, and what their outputs are called."""

from collections.abc import Sequence
import pathlib

from cellseg_jax.images import formats
from cellseg_jax.images.source import is_zarr


class InputError(ValueError):
  """The files to segment cannot be what was meant."""


def find_images(paths: Sequence[str | pathlib.Path]) -> list[pathlib.Path]:
  """Lists image files.

  Args:
    paths: Files, taken as they are, OME-Zarr folders, each one image, and other
      folders, whose images are taken.

  Returns:
    The files, in the order given, each folder's sorted by name.

  Raises:
    FileNotFoundError: A path is not there.
    InputError: A folder holds no image.
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
  """Refuses to write among the images.

  Raises:
    InputError: The folder for the outputs is one of the inputs, or within one.
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
  """Returns what the outputs of every image are called, without a suffix.

  Args:
    images: As `find_images` returns.
    out: The folder for the outputs.
    suffix: Of the label images.

  Raises:
    InputError: Two would be written to one file, or one over an image.
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
  """Returns every `parts`-th, from the `part`-th (from 1) on."""
  return list(images[part - 1 :: parts])
