"""Nothing in the package turns what it reads into code."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[2]

# Loaders of formats that run code, and ways to run text.
MODULES = {
  *('pickle', '_pickle', 'cloudpickle', 'dill', 'jsonpickle', 'joblib'),
  *('shelve', 'marshal', 'copyreg', 'yaml', 'code', 'codeop', 'runpy', 'imp'),
}
BUILTINS = {'eval', 'exec', 'compile', '__import__'}
METHODS = {'import_module', 'read_pickle', 'exec_module', 'run_path'}

# `--config=FILE.py` runs the file that the user names (SECURITY.md).
ALLOWED = {'cellseg_jax/cli/config_flag.py': {'runpy', 'run_path'}}


def found(tree):
  """What a module has of the above."""
  for node in ast.walk(tree):
    names = []
    if isinstance(node, ast.Import):
      names = [alias.name.split('.')[0] for alias in node.names]
    elif isinstance(node, ast.ImportFrom):
      names = [(node.module or '').split('.')[0]]
    yield from MODULES.intersection(names)
    if isinstance(node, ast.Name) and node.id in BUILTINS:
      yield node.id
    if isinstance(node, ast.Attribute) and node.attr in METHODS | {'eval'}:
      yield node.attr
    if isinstance(node, ast.keyword) and node.arg == 'allow_pickle':
      off = isinstance(node.value, ast.Constant) and node.value.value is False
      if not off:
        yield 'allow_pickle'
    if (
      isinstance(node, ast.ImportFrom)
      and node.module == 'importlib'
      and 'import_module' in [alias.name for alias in node.names]
    ):
      yield 'import_module'


def test_nothing_is_unpickled_evaluated_or_imported_by_name():
  files = [ROOT / 'run_train.py', *sorted((ROOT / 'cellseg_jax').rglob('*.py'))]
  assert len(files) > 100
  used = {
    str(path.relative_to(ROOT)): names
    for path in files
    if (names := set(found(ast.parse(path.read_text()))))
  }
  assert used == ALLOWED


@pytest.mark.parametrize(
  ('text', 'name'),
  [
    ('import pickle', 'pickle'),
    ('import pickle as p', 'pickle'),
    ('from dill import load', 'dill'),
    ('def f():\n  import joblib.externals', 'joblib'),
    ('import yaml; yaml.load(text)', 'yaml'),
    ('eval(text)', 'eval'),
    ('g = exec', 'exec'),
    ('df.eval(text)', 'eval'),
    ('np.load(path, allow_pickle=True)', 'allow_pickle'),
    ('np.load(path, allow_pickle=flag)', 'allow_pickle'),
    ('from importlib import import_module', 'import_module'),
    ('importlib.import_module(name)', 'import_module'),
    ('spec.loader.exec_module(module)', 'exec_module'),
  ],
)
def test_a_breach_would_be_found(text, name):
  assert name in set(found(ast.parse(text)))


def test_what_is_harmless_is_not():
  text = (
    'import re\nfrom importlib import metadata\nre.compile(pattern)\n'
    'np.load(path, allow_pickle=False)'
  )
  assert not set(found(ast.parse(text)))
