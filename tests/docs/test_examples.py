"""The examples in the docstrings run, those of the public names among them.

They load a model and read an image as a user would; here both are stand-ins.
"""

import doctest
import importlib
import pkgutil

import numpy as np
import pytest
from tiny_networks import LINE, segment_quickly, use_a_line
from tiny_sets import cells

import cellseg_jax
from cellseg_jax.config import Config
from cellseg_jax.inference.predict import Model


def find_examples():
  """All of the package, by name."""
  finder = doctest.DocTestFinder(exclude_empty=True)
  modules = pkgutil.walk_packages(cellseg_jax.__path__, 'cellseg_jax.')
  return {
    test.name: test
    for module in modules
    for test in finder.find(importlib.import_module(module.name))
    if test.examples
  }


EXAMPLES = find_examples()


@pytest.mark.parametrize('name', EXAMPLES)
def test_an_example_runs(name, monkeypatch):
  use_a_line(monkeypatch)
  segment_quickly(monkeypatch)
  model = Model(LINE, {'threshold': np.float32(0.6)}, Config())
  monkeypatch.setattr(cellseg_jax, 'load_model', lambda run: model)
  monkeypatch.setattr('skimage.io.imread', lambda path: cells()[0])
  test = EXAMPLES[name]
  said = []
  result = doctest.DocTestRunner().run(test, out=said.append, clear_globs=False)
  assert result.failed == 0, ''.join(said)
  assert result.attempted > 0


def test_every_public_name_has_an_example():
  objects = [getattr(cellseg_jax, name) for name in cellseg_jax.__all__]
  names = {f'{thing.__module__}.{thing.__name__}' for thing in objects}
  assert sorted(names - set(EXAMPLES)) == []
