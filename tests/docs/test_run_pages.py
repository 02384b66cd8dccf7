"""Every block of the documentation runs, in the order of its page.

Trainings take a few steps of a narrow network; what they reach is another
matter. A block that needs what is not here says so in its title.
"""

import os
import pathlib
import subprocess
import sys

from pages import blocks, PAGES, ROOT
import pytest
from whole_runs import environment

pytestmark = pytest.mark.slow

FIRST = ROOT / 'docs' / 'tutorials' / 'own_images.md'
# Of the README the Python is run by test_readme.py, of BUILD.md all that takes
# less than hours by the tests that it names.
OTHERS = [
  page
  for page in PAGES
  if page.name not in ('BUILD.md', 'CONTRIBUTING.md') and page != FIRST
]

_SHORT = (
  'training.steps=40',
  'training.evaluate_every=20',
  'training.checkpoint_every=20',
  'training.crop_size=96',
  'training.batch_size=4',
  'model.width=0.25',
)
_FLAGS = ' '.join(f'--config.{field}' for field in _SHORT)
_START = 'import sys; from cellseg_jax.cli.main import run; sys.exit(run())'

PROGRAMS = {
  'python': f'exec {sys.executable} "$@"',
  'bioimageio': f'exec {pathlib.Path(sys.executable).parent}/bioimageio "$@"',
  'cellseg': (
    f'[ "$1" = train ] && set -- "$@" {_FLAGS}\n'
    f'exec {sys.executable} -c \'{_START}\' "$@"'
  ),
}


def run_page(page, folder, monkeypatch):
  """Runs the blocks of a page in a folder."""
  names = {}
  for block in blocks(page):
    if block.reason or 'pip install' in block.code:
      continue
    if block.language == 'bash':
      # On as many devices as the block says.
      env = environment(1) | {
        'PATH': f'{folder}/.venv/bin:{os.environ["PATH"]}',
        'PYTHONPATH': str(ROOT),
      }
      done = subprocess.run(
        ['bash', '-eu', '-o', 'pipefail', '-c', block.code],
        cwd=folder,
        env=env,
        capture_output=True,
        text=True,
        check=False,
      )
      assert done.returncode == 0, f'{block.code}\n{done.stdout}{done.stderr}'
    elif block.language == 'python' and page.name != 'README.md':
      monkeypatch.chdir(folder)
      exec(block.code, names)


@pytest.fixture(scope='module')
def folder(tmp_path_factory):
  """A folder in which the tutorial with images of one's own was followed."""
  folder = tmp_path_factory.mktemp('pages')
  binaries = folder / '.venv' / 'bin'
  binaries.mkdir(parents=True)
  for name, text in PROGRAMS.items():
    (binaries / name).write_text(f'#!/bin/bash\n{text}\n')
    (binaries / name).chmod(0o755)
  (binaries / 'activate').touch()  # Its folder is on the path already.
  (folder / 'experiments').symlink_to(ROOT / 'experiments')
  (folder / 'run_train.py').write_text(
    'import sys\n'
    'from cellseg_jax.cli import train\n'
    f'sys.exit(train.main(sys.argv + {_FLAGS.split()}))\n'
  )
  with pytest.MonkeyPatch.context() as patch:
    run_page(FIRST, folder, patch)
  return folder


def test_the_first_tutorial_ends_with_a_table(folder):
  lines = (folder / 'segmented' / 'cells.csv').read_text().splitlines()
  assert len(lines) > 5


@pytest.mark.parametrize(
  'page', OTHERS, ids=[str(page.relative_to(ROOT)) for page in OTHERS]
)
def test_a_page_runs(page, folder, monkeypatch):
  run_page(page, folder, monkeypatch)
