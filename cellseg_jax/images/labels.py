"""Checks of labelled images: refuses faults that would spoil a training run.

Also small helpers on label images: connected components, renumbering, cells on
the border.
"""

from collections.abc import Iterator
import dataclasses

import numpy as np
from scipy import ndimage

# Labels with fewer pixels give a warning.
TINY_AREA = 30
# A label image with a single value is binary if it has at least two components
# of this many pixels.
_PIECE_AREA = 9
# A label image counts as interpolated if this share of its outline pixels, and
# at least this number, are one-pixel rims that border another label. Measured:
# at most 0.003 in 3,540 real cells, 0.12 after shrinking those eightfold with
# nearest neighbour; at least 0.2 after any interpolation, smoothing or JPEG.
_RIM_SHARE = 0.15
_RIM_PIXELS = 10

_EIGHT = np.ones((3, 3), bool)  # Pixels that meet at a corner are connected.

# Kinds of warning, with the text that is shown beside their count.
WARNINGS = {
  'pieces': 'labels in several pieces (each counts as one cell)',
  'tiny': f'labels smaller than {TINY_AREA} pixels',
  'empty': 'images without a cell',
  'constant': 'images of the same intensity everywhere',
}


class LabelError(ValueError):
  """An image or its labels cannot be used for training."""


@dataclasses.dataclass(frozen=True, eq=False)
class CheckedLabels:
  """Labels that passed `check_pair`.

  Attributes:
    labels: int32 (H, W); 0 is background or unlabelled.
    valid: bool (H, W); False where the label was the ignore value.
    warnings: Count of each kind of warning in `WARNINGS` that occurred.
  """

  labels: np.ndarray
  valid: np.ndarray
  warnings: dict[str, int]


def check_pair(
  image: np.ndarray,
  labels: np.ndarray,
  name: str,
  *,
  image_name: str = '',
  channels: int = 1,
  binary_labels: str = 'refuse',
  ignore_value: int = -1,
) -> CheckedLabels:
  """Checks one image and its label image before training.

  Args:
    image: (H, W), or (H, W, C) for several channels; integers or floats.
    labels: (H, W), as read from a file.
    name: Name of the labels in messages, usually their file.
    image_name: Name of the image in messages; '' takes `name`.
    channels: Number of channels that the image must have.
    binary_labels: For labels with a single value: 'refuse' them if they have
      several pieces, take their connected 'components' as cells, or trust that
      they are 'instances' (for formats that cannot be binary).
    ignore_value: Label of unlabelled pixels; -1 for none.

  Returns:
    The labels for training, with the counts of warnings.

  Raises:
    LabelError: The pair cannot be used; the message says what is wrong, where,
      and what to do.
  """
  check_image(image, image_name or name, channels)
  _check_type(image, labels, name)
  valid = labels != ignore_value
  labels = _as_int32(np.where(valid, labels, 0))
  _check_rims(labels, name)
  labels = _separate(labels, name, binary_labels)
  return CheckedLabels(labels, valid, dict(_warnings(image, labels)))


def connected_pieces(mask: np.ndarray) -> tuple[np.ndarray, int]:
  """Labels the 8-connected components of a mask.

  Args:
    mask: bool (H, W).

  Returns:
    The components, int32 (H, W), numbered from 1, and how many there are.
  """
  return ndimage.label(mask, _EIGHT)


def renumbered(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Renumbers labels as 1 to n, keeping their order.

  Args:
    labels: Integers of any shape; 0 is background, labels need not be
      consecutive.

  Returns:
    The new labels, int32 of the same shape, and the n old values, increasing.
  """
  values = np.unique(labels)
  values = values[values != 0]
  numbers = np.searchsorted(values, labels, side='right').astype(np.int32)
  return numbers, values


def on_border(labels: np.ndarray) -> np.ndarray:
  """Returns the labels of cells with a pixel on the border, increasing."""
  sides = (labels[0], labels[-1], labels[:, 0], labels[:, -1])
  values = np.unique(np.concatenate(sides))
  return values[values != 0]


def check_confidence(confidence: np.ndarray, values: np.ndarray) -> None:
  """Refuses confidences that are not exactly one per label value, (n,)."""
  if confidence.shape != values.shape:
    raise ValueError(
      f'there are {values.size} labels, but confidences of shape '
      f'{confidence.shape}; give one for each label, in increasing order'
    )


def check_image(image: np.ndarray, name: str, channels: int) -> None:
  """Refuses an image with the wrong channels or type, or with NaN.

  Args:
    image: (H, W) or (H, W, C).
    name: Name of the image in messages.
    channels: Number of channels that it must have.

  Raises:
    LabelError: The image has no pixels, another number of channels, a type that
      is not numeric, or NaN or infinite values.
  """
  if not image.size:
    raise LabelError(f'{name}: the image has no pixels (shape {image.shape})')
  found = image.shape[2] if image.ndim == 3 else 1
  if found != channels or image.ndim not in (2, 3):
    raise LabelError(
      f'{name}: the image has {found} channels (shape {image.shape}), but '
      f'config.data.channels is {channels}; set config.data.channels={found}, '
      'or save images with as many channels'
    )
  if image.dtype.kind not in 'uif':
    raise LabelError(
      f'{name}: the image is of type {image.dtype}; save it as integers or '
      'floats'
    )
  wrong = ~np.isfinite(image) if image.dtype.kind == 'f' else np.zeros(1, bool)
  if wrong.any():
    where = tuple(int(i) for i in np.argwhere(wrong)[0])
    raise LabelError(
      f'{name}: the image holds {int(wrong.sum())} values that are NaN or '
      f'infinite, the first at {where}; replace them'
    )


def _check_type(image: np.ndarray, labels: np.ndarray, name: str) -> None:
  if labels.shape != image.shape[:2]:
    raise LabelError(
      f'{name}: labels are of shape {labels.shape}, the image of '
      f'{image.shape[:2]}; label images must be as large as their images'
    )
  if labels.dtype.kind not in 'uib':
    raise LabelError(
      f'{name}: labels are of type {labels.dtype}, not integer; save them as '
      'integers, e.g. labels.astype("uint16"), if each value is one cell'
    )
  if labels.dtype.kind == 'i' and labels.min() < 0:
    raise LabelError(
      f'{name}: labels hold negative values (down to {labels.min()}); 0 is '
      'background and every cell a positive value'
    )


def _as_int32(labels: np.ndarray) -> np.ndarray:
  """Returns labels as int32; renumbers them if a value does not fit."""
  if labels.max() > np.iinfo(np.int32).max:
    return renumbered(labels)[0]
  return labels.astype(np.int32)


def _check_rims(labels: np.ndarray, name: str) -> None:
  """Refuses labels with one-pixel rims, a sign of interpolation."""
  rims, outline = _rims(labels)
  count = int(rims.sum())
  if count < _RIM_PIXELS or count < _RIM_SHARE * outline.sum():
    return
  y, x = (int(i) for i in np.argwhere(rims)[count // 2])
  raise LabelError(
    f'{name}: labels have interpolated edges: {count / outline.sum():.0%} of '
    'the outline pixels are one-pixel rims with values of their own (e.g. '
    f'{labels[y, x]} at row {y}, column {x}); the file was resized or rotated '
    'with interpolation, smoothed, or saved as JPEG. Make it again with '
    'nearest neighbour (order=0) and save it as TIFF or PNG'
  )


def _rims(labels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
  """Finds one-pixel rims between labels.

  Rims are outline pixels that border another label and are not part of any 2x2
  block of equal labels.

  Returns:
    Masks of the rims and of all outline pixels, bool (H, W).
  """
  padded = np.pad(labels, 1, mode='edge')
  neighbours = (
    padded[:-2, 1:-1],
    padded[2:, 1:-1],
    padded[1:-1, :-2],
    padded[1:-1, 2:],
  )
  outline, bordering = np.zeros((2, *labels.shape), bool)
  for neighbour in neighbours:
    outline |= neighbour != labels
    bordering |= (neighbour != labels) & (neighbour != 0)
  outline &= labels != 0
  corner = labels[1:, 1:]
  block = (
    (corner == labels[1:, :-1])
    & (corner == labels[:-1, 1:])
    & (corner == labels[:-1, :-1])
  )
  block = np.pad(block, 1)
  thick = block[1:, 1:] | block[1:, :-1] | block[:-1, 1:] | block[:-1, :-1]
  return outline & bordering & ~thick, outline


def _separate(labels: np.ndarray, name: str, binary_labels: str) -> np.ndarray:
  """Refuses or splits labels with a single value, by `binary_labels`."""
  values = np.unique(labels)
  values = values[values != 0]
  if len(values) != 1 or binary_labels == 'instances':
    return labels
  pieces, count = connected_pieces(labels != 0)
  if binary_labels == 'components':
    return pieces.astype(np.int32)
  large = int((np.bincount(pieces.ravel())[1:] >= _PIECE_AREA).sum())
  if large < 2:
    return labels
  raise LabelError(
    f'{name}: labels are binary: the one value {values[0]} is in {count} '
    'pieces, but every cell needs a value of its own; if no two cells touch, '
    "set config.data.binary_labels='components'"
  )


def _warnings(
  image: np.ndarray, labels: np.ndarray
) -> Iterator[tuple[str, int]]:
  """Yields each kind of warning that applies to a pair, with its count."""
  pieces = tiny = 0
  labels, _ = renumbered(labels)
  for value, box in enumerate(ndimage.find_objects(labels), start=1):
    cell = labels[box] == value
    tiny += int(cell.sum() < TINY_AREA)
    pieces += connected_pieces(cell)[1] > 1
  counts = {
    'pieces': pieces,
    'tiny': tiny,
    'empty': not labels.any(),
    'constant': image.min() == image.max(),
  }
  for kind, count in counts.items():
    if count:
      yield kind, int(count)
