"""Microscope formats such as CZI, ND2 and LIF, read by bioio if installed."""

import pathlib
from typing import Any

import numpy as np

from cellseg_jax.images.errors import brief, choose_scene, ImageFileError
from cellseg_jax.images.opened import Opened
from cellseg_jax.images.units import pixel_size_of


class _Computed:
  """A Dask array that computes what is indexed."""

  def __init__(self, array: Any):
    self.shape, self.dtype = array.shape, array.dtype
    self.chunks = array.chunksize
    self._array = array

  def __getitem__(self, index: tuple[Any, ...]) -> np.ndarray:
    return np.asarray(self._array[index])


def open_microscopy(path: pathlib.Path, scene: str = '') -> Opened:
  """Opens one image of a file in any format that bioio reads.

  Args:
    path: The file.
    scene: Name or index of the image; '' for files with a single one.

  Raises:
    ImageFileError: bioio or its reader for this format is not installed, the
      file cannot be read, or the scene is missing or not chosen.
  """
  kind = path.suffix.lower() or 'a file without suffix'
  try:
    import bioio
  except ImportError:
    raise ImageFileError(
      f'{path}: cannot read {kind}; TIFF, PNG, JPEG and OME-Zarr are read, and '
      'CZI, ND2, LIF and others of bioio after `pip install '
      '"cellseg_jax[microscopy]"`'
    ) from None
  try:
    image = bioio.BioImage(path)
    scenes = [(name, '') for name in image.scenes]
    image.set_scene(choose_scene(path, scenes, scene))
    array, axes = image.dask_data, image.dims.order
    size = image.physical_pixel_sizes
    names = image.channel_names or ()
  except ImageFileError:
    raise
  except Exception as error:  # bioio's readers raise errors of any type.
    raise ImageFileError(
      f'{path}: bioio cannot read this {kind} ({brief(error)}); it is damaged '
      'or of another kind, or its reader is not installed'
    ) from error
  pixel_size = pixel_size_of((size.Y, size.X), ('um', 'um'))
  return Opened(_Computed(array), axes, pixel_size, tuple(map(str, names)))
