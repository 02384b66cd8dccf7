"""Public data sets, read in their published layouts from a downloaded folder.

Nothing is downloaded automatically: `config.data.path` names the folder. If
files are missing, the error says where to download them and what layout is
expected.
"""

from collections.abc import Iterator
import csv
import functools
import pathlib
import re

import numpy as np

from cellseg_jax.config import ConfigError, DataConfig
from cellseg_jax.datasets.builder import (
  LabelledImages,
  LeftOut,
  Listing,
  Pair,
)
from cellseg_jax.datasets.folder import read_pair
from cellseg_jax.images.formats import read_image, read_labels
from cellseg_jax.images.labels import LabelError
from cellseg_jax.inside import is_plain


class PublicSet(  # type: ignore[call-arg]  # TFDS has the keyword.
  LabelledImages, skip_registration=True
):
  """Base class of the public data sets.

  Attributes:
    page: Web page to download the data set from.
    layout: The files that the folder is expected to hold.
  """

  page: str
  layout: str
  labels_are_instances = True

  @classmethod
  def missing(cls, path: pathlib.Path) -> ConfigError:
    """Returns the error to raise if `path` is absent."""
    return ConfigError(
      f'config.data.path: there is no {path}; download {cls.name} from '
      f'{cls.page} and unpack it so that the folder holds {cls.layout}'
    )

  @classmethod
  def require(cls, *paths: pathlib.Path) -> None:
    """Raises ConfigError unless all of `paths` are files or folders."""
    for path in paths:
      if not (path.is_file() or path.is_dir()):
        raise cls.missing(path)


class SBsst265(PublicSet):
  """TFDS builder `s_bsst265`: annotated nuclei in fluorescence images.

  Its splits are `train` and `test`.

  Source: Kromp et al. 2020, Scientific Data 7:262; BioStudies S-BSST265.
  """

  name = 's_bsst265'
  page = 'https://www.ebi.ac.uk/biostudies/studies/S-BSST265'
  layout = 'rawimages/NAME.tif, groundtruth/NAME.tif, image_description.csv'

  @classmethod
  def listing(cls, data: DataConfig) -> Listing:
    """Lists the images of `image_description.csv` by its split column.

    Args:
      data: Names the folder.

    Raises:
      ConfigError: A file is missing, or the table is empty or invalid.
    """
    root = pathlib.Path(data.path)
    table = root / 'image_description.csv'
    splits: dict[str, list[Pair]] = {'train': [], 'test': []}
    for name, split in _described(cls, table):
      image = root / 'rawimages' / f'{name}.tif'
      labels = root / 'groundtruth' / f'{name}.tif'
      cls.require(image, labels)
      read = functools.partial(read_pair, image, labels, data.max_pixels)
      splits[split].append(Pair(name, str(labels), (image, labels), read))
    found = {k: tuple(pairs) for k, pairs in splits.items() if pairs}
    if not found:
      raise ConfigError(f'{table}: lists no image')
    return Listing(found, files=(table,))


class Bbbc038(PublicSet):
  """TFDS builder `bbbc038`: Data Science Bowl 2018, stage 1 training images.

  With one channel, the coloured images (stained tissue) are left out; with
  three, all images are used, without their alpha channel.

  Source: Caicedo et al. 2019, Nature Methods 16:1247; BBBC038v1.
  """

  name = 'bbbc038'
  page = 'https://bbbc.broadinstitute.org/BBBC038'
  layout = 'stage1_train/ID/images/ID.png and stage1_train/ID/masks/*.png'

  @classmethod
  def listing(cls, data: DataConfig) -> Listing:
    """Lists the folders of `stage1_train`, one per image.

    Args:
      data: Names the folder and the number of channels.

    Raises:
      ConfigError: A file or folder is missing.
    """
    root = pathlib.Path(data.path) / 'stage1_train'
    cls.require(root)
    pairs = []
    for folder in sorted(path for path in root.iterdir() if path.is_dir()):
      image = folder / 'images' / f'{folder.name}.png'
      masks = tuple(sorted((folder / 'masks').glob('*.png')))
      cls.require(image, folder / 'masks')
      read = functools.partial(_read_bbbc038, image, masks, data)
      pairs.append(Pair(folder.name, str(folder), (image, *masks), read))
    if not pairs:
      raise cls.missing(root / 'ID')
    return Listing({'train': tuple(pairs)})


class CellTrackingChallenge(PublicSet):
  """TFDS builder `cell_tracking_challenge`: frames with gold segmentation.

  A frame with fewer segmented cells (SEG) than tracking markers (TRA) is left
  out, since the outlines of its other cells are unknown.

  Source: Ulman et al. 2017, Nature Methods 14:1141.
  """

  name = 'cell_tracking_challenge'
  page = 'https://celltrackingchallenge.net/2d-datasets/'
  layout = '01/t000.tif, 01_GT/SEG/man_seg000.tif, 01_GT/TRA/man_track000.tif'

  @classmethod
  def listing(cls, data: DataConfig) -> Listing:
    """Lists the frames with a segmentation (SEG) of every sequence.

    Args:
      data: Names the folder of the data set, or its parent.

    Raises:
      ConfigError: A file is missing, or the folder holds several data sets.
      LabelError: The data set is three-dimensional.
    """
    root = _dataset_folder(cls, pathlib.Path(data.path))
    pairs = []
    for truth in sorted(root.glob('[0-9][0-9]_GT/SEG')):
      sequence = truth.parent.name.removesuffix('_GT')
      for labels in sorted(truth.glob('man_seg*.tif')):
        match = re.fullmatch(r'man_seg(\d+)', labels.stem)
        if match is None:
          raise LabelError(
            f'{labels}: not a 2-D frame (man_segNNN.tif); 3-D sets are not '
            'supported'
          )
        frame = match[1]
        image = root / sequence / f't{frame}.tif'
        markers = truth.parent / 'TRA' / f'man_track{frame}.tif'
        cls.require(image, markers)
        files = (image, labels, markers)
        read = functools.partial(_read_ctc, *files, data.max_pixels)
        pairs.append(Pair(f'{sequence}_t{frame}', str(labels), files, read))
    if not pairs:
      raise cls.missing(root / '01_GT' / 'SEG' / 'man_seg000.tif')
    return Listing({'train': tuple(pairs)})


def _described(
  builder: type[SBsst265], table: pathlib.Path
) -> Iterator[tuple[str, str]]:
  """Yields image name and split of every row of S-BSST265's table.

  Raises:
    ConfigError: The table is missing, or has missing columns or invalid values.
  """
  builder.require(table)
  name_column, split_column = 'Image_Name', 'Train-/Testset split'
  with table.open(newline='', encoding='utf-8-sig') as file:
    rows = csv.DictReader(file, delimiter=';')
    for column in (name_column, split_column):
      if column not in (rows.fieldnames or ()):
        raise ConfigError(
          f'{table}: no column {column!r} (found {rows.fieldnames}); use the '
          f'file of {builder.page} as it is'
        )
    for row in rows:
      split = (row[split_column] or '').strip().lower()
      if split not in ('train', 'test'):
        raise ConfigError(
          f'{table}, line {rows.line_num}: {split_column!r} must be train or '
          f'test, found {split!r}'
        )
      name = row[name_column].strip().removesuffix('.tif')
      if not is_plain(name):
        raise ConfigError(
          f'{table}, line {rows.line_num}: {name_column!r} must be the name of '
          f'a file, found {name!r}'
        )
      yield name, split


def _read_bbbc038(
  image_file: pathlib.Path, masks: tuple[pathlib.Path, ...], data: DataConfig
) -> tuple[np.ndarray, np.ndarray]:
  """Reads an image, and combines its masks to labels numbered from 1.

  Raises:
    LeftOut: The image is coloured, but one channel is wanted.
    LabelError: A mask differs in shape from the image.
  """
  image = read_image(image_file, max_pixels=data.max_pixels)
  if image.ndim == 3:
    image = image[..., :3]  # The fourth channel is opacity.
    if data.channels == 1:
      if (image != image[..., :1]).any():
        raise LeftOut('coloured (config.data.channels=3 uses them)')
      image = image[..., 0]
  labels = np.zeros(image.shape[:2], np.int32)
  for number, path in enumerate(masks, start=1):
    mask = read_labels(path, max_pixels=data.max_pixels)
    if mask.shape != labels.shape:
      raise LabelError(
        f'{path}: mask is of shape {mask.shape}, the image of {labels.shape}'
      )
    labels[mask > 0] = number
  return image, labels


def _dataset_folder(
  builder: type[CellTrackingChallenge], path: pathlib.Path
) -> pathlib.Path:
  """Returns `path` if it is a data set, or else the only data set inside it.

  Raises:
    ConfigError: There is no data set, or more than one.
  """
  truth = '[0-9][0-9]_GT/SEG'
  if any(path.glob(truth)):
    return path
  inside = sorted({found.parents[1] for found in path.glob(f'*/{truth}')})
  if len(inside) > 1:
    raise ConfigError(
      f'config.data.path: {path} holds {len(inside)} data sets '
      f'({", ".join(folder.name for folder in inside)}); name one of them'
    )
  if not inside:
    raise builder.missing(path / '01_GT' / 'SEG')
  return inside[0]


def _read_ctc(
  image: pathlib.Path,
  labels_file: pathlib.Path,
  markers_file: pathlib.Path,
  max_pixels: int,
) -> tuple[np.ndarray, np.ndarray]:
  """Reads a frame and its labels.

  Raises:
    LeftOut: Fewer cells are segmented than marked.
  """
  labels, markers = (
    read_labels(path, max_pixels=max_pixels)
    for path in (labels_file, markers_file)
  )
  segmented, marked = (
    np.count_nonzero(np.unique(values)) for values in (labels, markers)
  )
  if segmented < marked:
    raise LeftOut('partly annotated (fewer SEG cells than TRA markers)')
  return read_image(image, max_pixels=max_pixels), labels
