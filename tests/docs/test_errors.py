"""Every error of the package's own is on the page of errors."""

import ast
import pathlib
import re

ROOT = pathlib.Path(__file__).parents[2]
SHOWN = 40  # Characters of a message that name it.


def own_errors(trees):
  """Names of the package's classes of errors."""
  return {
    node.name
    for tree in trees
    for node in ast.walk(tree)
    if isinstance(node, ast.ClassDef)
    and any(ast.unparse(base).endswith('Error') for base in node.bases)
  }


def texts(node):
  """The parts of a message that stand in the code, in order."""
  if isinstance(node, ast.Constant) and isinstance(node.value, str):
    return [node.value]
  if isinstance(node, ast.JoinedStr):
    parts = ['']
    for value in node.values:
      if isinstance(value, ast.Constant):
        parts[-1] += value.value
      else:
        parts.append('')
    return parts
  if isinstance(node, ast.BinOp):
    left, right = texts(node.left), texts(node.right)
    return [*left[:-1], left[-1] + right[0], *right[1:]]
  return ['', '']


def name_of(message):
  """The longest of these parts, without what to do, cut to what names it."""
  parts = (part.strip(' :;,\n').split('; ')[0] for part in texts(message))
  return max(parts, key=len)[:SHOWN].rstrip(' (:,')


def messages(trees, own):
  return {
    name_of(argument)
    for tree in trees
    for node in ast.walk(tree)
    if isinstance(node, ast.Raise)
    and isinstance(node.exc, ast.Call)
    and ast.unparse(node.exc.func).split('.')[-1] in own
    for argument in node.exc.args[:1]
  }


def test_every_error_is_explained():
  sources = sorted((ROOT / 'cellseg_jax').rglob('*.py'))
  trees = [ast.parse(path.read_text()) for path in sources]
  own = own_errors(trees)
  page = (ROOT / 'docs' / 'reference' / 'errors.md').read_text()
  assert {name for name in own if name not in page} <= {'Interrupted'}
  found = {text for text in messages(trees, own) if len(text) > 8}
  assert len(found) > 80
  # The page shows what is put in as an ellipsis, code as it is printed.
  page = re.sub(r'\s+', ' ', page)
  assert sorted(text for text in found if text not in page) == []
