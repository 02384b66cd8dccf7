"""OME-Zarr 0.4 and 0.5 in local folders: reading images, creating labels."""

from collections.abc import Sequence
import pathlib
from typing import Any

import numpy as np
from ome_zarr_models import v04, v05
import zarr

from cellseg_jax.images.axes import UNSTATED
from cellseg_jax.images.errors import choose_scene, ImageFileError
from cellseg_jax.images.opened import Opened
from cellseg_jax.images.units import pixel_size_of
from cellseg_jax.images.zarr_codecs import guarded

_VERSIONS = {'0.4': v04, '0.5': v05}
# Depth of nested groups in a plate: row, column, field.
_DEEPEST = 3


def open_zarr(path: pathlib.Path, scene: str = '') -> Opened:
  """Opens an image at full resolution, or an array without metadata.

  Args:
    path: The folder of the image.
    scene: Name or index of the image in a folder of several; '' for folders of
      one.

  Raises:
    ImageFileError: The folder holds no image itself, its version or codecs are
      not supported, or the scene is missing or not chosen.
  """
  node: Any = zarr.open(path, mode='r')
  if isinstance(node, zarr.Array):
    return Opened(guarded(path, node), UNSTATED * node.ndim)
  attributes = _ome(node)
  if 'bioformats2raw.layout' in attributes:
    names = sorted((n for n in node.group_keys() if n != 'OME'), key=_order)
    node = node[names[choose_scene(path, [(n, '') for n in names], scene)]]
    attributes, scene = _ome(node), ''
  if not attributes.get('multiscales'):
    raise ImageFileError(
      f'{path}: has no OME-Zarr image of its own; give one of those within it, '
      f'such as {path}/{_an_image(node) or "A/1/0"}'
    )
  images = attributes['multiscales']
  scenes = [(str(image.get('name', '')), '') for image in images]
  image = images[choose_scene(path, scenes, scene)]
  return _open_image(path, node, attributes, image)


def _open_image(
  path: pathlib.Path,
  group: zarr.Group,
  attributes: dict[str, Any],
  image: dict[str, Any],
) -> Opened:
  version = attributes.get('version') or image.get('version') or '0.4'
  if version not in _VERSIONS:
    raise ImageFileError(
      f'{path}: is OME-Zarr {version}; those read are '
      f'{", ".join(_VERSIONS)}: save it as one of them'
    )
  multiscale = _VERSIONS[version].multiscales.Multiscale.model_validate(image)
  full = multiscale.datasets[0]
  array = group[full.path]
  if not isinstance(array, zarr.Array):
    raise ImageFileError(f'{path}: its {full.path!r} is no array')
  names = [str(axis.name).lower() for axis in multiscale.axes]
  scales = [
    transforms[0].scale
    for transforms in (
      full.coordinateTransformations,
      multiscale.coordinateTransformations,
    )
    if transforms and hasattr(transforms[0], 'scale')
  ]
  lengths, units = [], []
  for axis in 'yx':
    place = names.index(axis) if axis in names else 0
    length = 1.0
    for scale in scales:
      length *= scale[place]
    lengths.append(length)
    units.append(multiscale.axes[place].unit)
  channels = attributes.get('omero', {}).get('channels', [])
  labels = tuple(str(channel.get('label', '')) for channel in channels)
  axes = ''.join(name.upper() if len(name) == 1 else UNSTATED for name in names)
  return Opened(
    guarded(path, array),
    axes,
    pixel_size_of(lengths, units),
    labels if any(labels) else (),
  )


def _ome(group: zarr.Group) -> dict[str, Any]:
  """Returns OME attributes, which version 0.5 keeps under `ome`."""
  attributes: dict[str, Any] = dict(group.attrs)
  return attributes.get('ome', attributes)


def _order(name: str) -> tuple[int, str]:
  return (int(name) if name.isdecimal() else 10**9, name)


def _an_image(group: zarr.Group, deepest: int = _DEEPEST) -> str:
  """Returns the path of the first image inside a group, such as a plate."""
  for name, child in sorted(group.groups()):
    if 'multiscales' in _ome(child):
      return name
    # The depth is limited because links can make a folder endless.
    below = _an_image(child, deepest - 1) if deepest > 1 else ''
    if below:
      return f'{name}/{below}'
  return ''


def create_zarr_labels(
  path: pathlib.Path,
  shape: Sequence[int],
  chunks: Sequence[int],
  dtype: np.dtype,
  axes: str,
  pixel_size: tuple[float, float] | None,
  version: str,
) -> zarr.Array:
  """Creates an OME-Zarr label image of zeros, with a single resolution.

  Args:
    path: The folder to create.
    shape: Shape of the labels.
    chunks: Shape of a chunk.
    dtype: An unsigned integer type.
    axes: One letter per axis, of T, Z, Y and X.
    pixel_size: Height and width of a pixel in um; None if unknown.
    version: Version of OME-Zarr, '0.4' or '0.5'.

  Returns:
    The array to write the labels to.
  """
  package = _VERSIONS[version]
  spacing = dict(zip('YX', pixel_size or (), strict=bool(pixel_size)))
  multiscale = package.multiscales.Multiscale(
    axes=[
      package.axes.Axis(
        name=axis.lower(),
        type='time' if axis == 'T' else 'space',
        unit='micrometer' if axis in spacing else None,
      )
      for axis in axes
    ],
    datasets=[
      package.multiscales.Dataset.build(
        path='0',
        scale=[spacing.get(axis, 1.0) for axis in axes],
        translation=None,
      )
    ],
  )
  label = package.image_label_types.Label(version=version)
  attributes = {
    'multiscales': [multiscale.model_dump(exclude_none=True)],
    'image-label': label.model_dump(exclude_none=True),
  }
  options: dict[str, Any] = {}
  if version == '0.4':
    attributes['multiscales'][0]['version'] = version
    options['chunk_key_encoding'] = {'name': 'v2', 'separator': '/'}
  else:
    attributes = {'ome': {'version': version, **attributes}}
    options['dimension_names'] = list(axes.lower())
  group = zarr.create_group(
    path, zarr_format=2 if version == '0.4' else 3, attributes=attributes
  )
  return group.create_array(
    '0',
    shape=tuple(shape),
    chunks=tuple(chunks),
    dtype=dtype,
    **options,
  )
