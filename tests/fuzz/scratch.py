"""Where the files are that bytes stand for."""

import atexit
import pathlib
import shutil
import tempfile


def scratch_folder():
  """Makes a folder that goes when the process ends; returns its path."""
  folder = pathlib.Path(tempfile.mkdtemp(prefix='cellseg_fuzz'))
  atexit.register(shutil.rmtree, folder, ignore_errors=True)
  return folder
