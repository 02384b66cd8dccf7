"""What several rooms of tests share."""

import os
import tempfile

import pytest
from tiny_sets import write_folder


@pytest.fixture(scope='module')
def data(tmp_path_factory):
  """A folder of two training images and a validation image."""
  folder = tmp_path_factory.mktemp('runs') / 'set'
  write_folder(folder / 'train', ['a', 'b'])
  write_folder(folder / 'validation', ['c'])
  return folder


def pytest_configure(config):
  """Commands that are run keep their compiled programs in a folder of ours."""
  if hasattr(config, 'workerinput'):
    return
  folder = tempfile.TemporaryDirectory(prefix='cellseg_tests')
  config.add_cleanup(folder.cleanup)
  os.environ['XDG_CACHE_HOME'] = folder.name
