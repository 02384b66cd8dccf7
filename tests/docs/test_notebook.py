"""The notebook is executed as it is, but for fewer steps."""

import pathlib

import pytest
from whole_runs import environment

NOTEBOOK = (
  pathlib.Path(__file__).parents[2] / 'docs' / 'notebooks/in_a_program.ipynb'
)


@pytest.mark.slow
def test_the_notebook_runs(tmp_path):
  nbclient = pytest.importorskip('nbclient')
  nbformat = pytest.importorskip('nbformat')
  book = nbformat.read(NOTEBOOK, as_version=4)
  (cell,) = (c for c in book.cells if 'STEPS = 220' in c.source)
  cell.source = cell.source.replace('STEPS = 220', 'STEPS = 10')
  nbclient.NotebookClient(
    book, timeout=600, resources={'metadata': {'path': tmp_path}}
  ).execute(env=environment(1))
  assert (tmp_path / 'runs' / 'program' / 'evaluation.json').exists()
