"""What several rooms of tests share."""

import pytest
from tiny_sets import write_folder


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """A folder of two training images and a validation image."""
  folder = tmp_path_factory.mktemp('runs') / 'set'
  write_folder(folder / 'train', ['a', 'b'])
  write_folder(folder / 'validation', ['c'])
  return folder
