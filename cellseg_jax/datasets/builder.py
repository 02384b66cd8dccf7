"""Base class of the data sets: lists, checks and stores labelled images.

A data set lists its pairs of image and labels (`Listing`); `LabelledImages`
checks them and has TFDS write them as array_record files.
"""

import abc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
import contextlib
import dataclasses
import pathlib
from typing import Any

import numpy as np
import tensorflow_datasets as tfds

from cellseg_jax.config import DataConfig
from cellseg_jax.images.formats import ImageFileError
from cellseg_jax.images.labels import check_pair, LabelError, WARNINGS

SHARD = 256  # Examples per file.
_SHOWN_FAULTS = 10
_DEFAULT = DataConfig()


class LeftOut(Exception):
  """Raised by `Pair.read` to skip the pair; the message gives the reason."""


@dataclasses.dataclass(frozen=True)
class Pair:
  """An image and its labels, not yet read.

  Attributes:
    name: Name of the pair, unique within its split.
    source: What messages call the pair, usually the path of the label file.
    files: Every file that the pair is made from, the image file first.
    read: Returns the raw image and the raw labels; raises `ImageFileError`,
      `LabelError` or `LeftOut`.
  """

  name: str
  source: str
  files: tuple[pathlib.Path, ...]
  read: Callable[[], tuple[np.ndarray, np.ndarray]]


@dataclasses.dataclass(frozen=True)
class Listing:
  """The contents of a data set.

  Attributes:
    splits: The pairs of each split, in order.
    files: Further files that the set depends on.
    warnings: Warnings to the user about the set as a whole.
  """

  splits: Mapping[str, tuple[Pair, ...]]
  files: tuple[pathlib.Path, ...] = ()
  warnings: tuple[str, ...] = ()


class LabelledImages(  # type: ignore[call-arg]  # TFDS has the keyword.
  tfds.core.GeneratorBasedBuilder, abc.ABC, skip_registration=True
):
  """Base class of the TFDS builders of this package.

  Attributes:
    image_dtype: The dtype that images are stored as. The default, float32,
      represents integers up to 2**24 exactly.
    labels_are_instances: Whether, by the format's definition, each label value
      is one cell.
  """

  # Nothing is downloaded. Without this, TFDS would look for checksums, which
  # needs a module that it does not declare as a dependency.
  url_infos = None
  VERSION = tfds.core.Version('1.0.0')
  image_dtype: type[np.generic] = np.float32
  labels_are_instances: bool = False

  def __init__(self, *, data: DataConfig = _DEFAULT, **kwargs: Any):
    self._data = data
    kwargs.setdefault('file_format', 'array_record')
    super().__init__(**kwargs)

  @classmethod
  @abc.abstractmethod
  def listing(cls, data: DataConfig) -> Listing:
    """Lists the pairs without reading them.

    Args:
      data: Where the data set lies and how to read it.

    Raises:
      ConfigError: The files are not where `data.path` says.
      LabelError: Names are ambiguous.
    """

  def _info(self) -> tfds.core.DatasetInfo:
    channels = (self._data.channels,) if self._data.channels > 1 else ()

    def tensor(dtype: type[np.generic], *channels: int) -> Any:
      # Not 'zlib': array_record compresses anyway, so it would only take time.
      return tfds.features.Tensor(
        shape=(None, None, *channels), dtype=dtype, encoding='bytes'
      )

    return tfds.core.DatasetInfo(
      builder=self,
      features=tfds.features.FeaturesDict(
        {
          'name': tfds.features.Text(),
          'image': tensor(self.image_dtype, *channels),
          'labels': tensor(np.int32),
          'valid': tensor(np.bool_),
        }
      ),
      metadata=tfds.core.MetadataDict(),
      disable_shuffling=True,
    )

  def write(self) -> None:
    """Writes all splits into `data_dir`, one example at a time.

    TFDS's own `download_and_prepare` would keep a whole split in memory, and
    needs TensorFlow for more than 1000 MiB.

    Raises:
      LabelError: Some files cannot be trained on, and the message names the
        first ten and their faults; or no image has a labelled cell.
    """
    self.data_path.mkdir(parents=True)
    splits = self._split_generators(None)
    writer = tfds.core.SequentialWriter(
      self.info, SHARD, file_format='array_record'
    )
    writer.initialize_splits(list(splits))
    for split, examples in splits.items():
      for _, example in examples:
        writer.add_examples({split: [example]})
    writer.close_all()

  def _split_generators(self, dl_manager: Any) -> dict[str, Iterator[Any]]:
    del dl_manager  # `listing` checks the user's folder, with better messages.
    listing = self.listing(self._data)
    report = _Report(self._data.path or self.name)
    # The generators run one after another, so the last one sees all faults.
    *_, last = listing.splits
    return {
      split: self._generate_examples(pairs, listing, report, split == last)
      for split, pairs in listing.splits.items()
    }

  def _generate_examples(
    self,
    pairs: tuple[Pair, ...],
    listing: Listing,
    report: '_Report',
    last: bool,
  ) -> Iterator[tuple[int, dict[str, Any]]]:
    for key, pair in enumerate(pairs):
      with report.collect():
        yield key, self._example(pair, report)
    if last:
      report.refuse_faults()
      self.info.metadata['warnings'] = [*listing.warnings, *report.warnings()]

  def _example(self, pair: Pair, report: '_Report') -> dict[str, Any]:
    image, labels = pair.read()
    checked = check_pair(
      image,
      labels,
      pair.source,
      image_name=str(pair.files[0]) if pair.files else '',
      channels=self._data.channels,
      binary_labels=(
        'instances' if self.labels_are_instances else self._data.binary_labels
      ),
      ignore_value=self._data.ignore_value,
    )
    report.add(checked.warnings, bool(checked.labels.any()))
    return {
      'name': pair.name,
      'image': image.astype(self.image_dtype),
      'labels': checked.labels,
      'valid': checked.valid,
    }


class _Report:
  """Collects faults and warnings over all pairs of a data set."""

  def __init__(self, where: str):
    self._where = where
    self._faults: list[str] = []
    self._left_out: Counter[str] = Counter()
    self._warned: Counter[str] = Counter()
    self._with_cells = 0
    self._pairs = 0

  @contextlib.contextmanager
  def collect(self) -> Iterator[None]:
    self._pairs += 1
    try:
      yield
    except (ImageFileError, LabelError) as fault:
      self._faults.append(str(fault))
    except LeftOut as reason:
      self._left_out[str(reason)] += 1

  def add(self, warnings: Mapping[str, int], has_cells: bool) -> None:
    self._warned.update(warnings)
    self._with_cells += has_cells

  def warnings(self) -> list[str]:
    counted = [
      f'{text}: {self._warned[kind]}'
      for kind, text in WARNINGS.items()
      if self._warned[kind]
    ]
    return counted + self._reasons()

  def _reasons(self) -> list[str]:
    return [f'images left out, {why}: {n}' for why, n in self._left_out.items()]

  def refuse_faults(self) -> None:
    """Raises LabelError if a pair was faulty, or if no cell is labelled."""
    if self._faults:
      shown = self._faults[:_SHOWN_FAULTS]
      more = len(self._faults) - len(shown)
      raise LabelError(
        f'{self._where}: {len(self._faults)} of {self._pairs} images cannot be '
        'trained on:\n  '
        + '\n  '.join(shown)
        + (f'\n  and {more} more' if more else '')
      )
    if not self._with_cells:
      raise LabelError(
        f'{self._where}: no cell in any of {self._pairs} label images'
        + ''.join(f'; {reason}' for reason in self._reasons())
        + '; every cell needs a value above 0'
      )
