import dataclasses
import pathlib

import pytest

from cellseg_jax.config import DataConfig


@dataclasses.dataclass
class Place:
  """A folder for files of a data set, and one for prepared copies."""

  path: pathlib.Path
  cache: pathlib.Path

  def config(self, dataset='labelled_folder', **fields):
    return DataConfig(
      dataset=dataset, path=str(self.path), cache=str(self.cache), **fields
    )


@pytest.fixture
def place(tmp_path):
  (tmp_path / 'set').mkdir()
  return Place(tmp_path / 'set', tmp_path / 'cache')
