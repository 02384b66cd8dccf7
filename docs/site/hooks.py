"""What MkDocs asks of us while it builds: pages made from what there is.

A comment `<!-- made: NAME ... -->` in a page is replaced by what the function
of that name in `MAKERS` returns, so that nothing is written down twice.
"""

import ast
import contextlib
import io
import json
import pathlib
import re
import sys
from typing import Any
from unittest import mock

from latex2mathml import converter

ROOT = pathlib.Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))


def on_config(config: Any) -> Any:
  """Lets blocks of `math` become MathML, which browsers show by themselves."""
  config.mdx_configs['pymdownx.superfences'] = {
    'custom_fences': [{'name': 'math', 'class': 'math', 'format': _math}]
  }
  return config


def on_page_markdown(markdown: str, **_: Any) -> str:
  """Replaces the comments of a page."""
  return re.sub(
    r'<!-- made: (\w+) ?(.*?) -->',
    lambda found: MAKERS[found[1]](*filter(None, [found[2]])),
    markdown,
  )


def _math(source: str, *_: Any, **__: Any) -> str:
  return converter.convert(source, display='block')


def section(title: str) -> str:
  """Returns a section of BUILD.md, without its title."""
  text = (ROOT / 'BUILD.md').read_text()
  found = re.search(
    rf'^(#+) {re.escape(title)}\n(.*?)(?=^#{{1,2}} |^\1 |\Z)',
    text,
    re.DOTALL | re.MULTILINE,
  )
  if not found:
    raise ValueError(f'BUILD.md has no section {title!r}')
  return found[2]


def fields() -> str:
  """Returns a table of every part of the configuration."""
  path = ROOT / 'cellseg_jax' / 'config.py'
  lines = path.read_text().splitlines()
  classes = {
    node.name: node
    for node in ast.parse(path.read_text()).body
    if isinstance(node, ast.ClassDef)
  }
  parts = [
    _part(field.target.id, classes[field.annotation.id], lines)
    for field in classes['Config'].body
    if isinstance(field, ast.AnnAssign)
  ]
  return '\n'.join(parts)


def _part(name: str, part: ast.ClassDef, lines: list[str]) -> str:
  rows = [
    f'## config.{name}',
    '',
    str(ast.get_docstring(part)),
    '',
    '| field | type | default | what |',
    '|---|---|---|---|',
  ]
  what = ''
  for field in part.body:
    if isinstance(field, ast.AnnAssign):
      first = last = field.lineno - 1
      while lines[first - 1].startswith('  #'):
        first -= 1
      # One comment may stand above two fields.
      what = ' '.join(line.strip('# ') for line in lines[first:last]) or what
      kind, default = ast.unparse(field.annotation), ast.unparse(field.value)
      rows.append(
        f'| `{field.target.id}` | {kind} | `{default}` | {_cell(what)} |'
      )
  return '\n'.join(rows) + '\n'


def _cell(text: str) -> str:
  """Text for a table, where | would end a cell."""
  return text.replace('|', '\\|')


def commands() -> str:
  """Returns what every sub-command of `cellseg` says of itself."""
  names = re.findall(r'^    (\w[\w-]*) ', _help(), re.MULTILINE)
  return '\n'.join(
    f'## cellseg {name}\n\n```text\n{_help(name)}```\n' for name in names
  )


def _help(*arguments: str) -> str:
  from cellseg_jax.cli import main

  said = io.StringIO()
  with (
    mock.patch.object(sys, 'argv', ['cellseg', *arguments, '--help']),
    mock.patch.dict('os.environ', COLUMNS='80'),
    contextlib.redirect_stdout(said),
    contextlib.suppress(SystemExit),
  ):
    main.run()
  return said.getvalue()


def notebook(path: str) -> str:
  """Returns a notebook's cells, without what they print."""
  cells = json.loads((ROOT / 'docs' / path).read_text())['cells']
  return '\n\n'.join(
    ''.join(cell['source'])
    if cell['cell_type'] == 'markdown'
    else f'```python\n{"".join(cell["source"])}\n```'
    for cell in cells
  )


MAKERS = {
  'section': section,
  'fields': fields,
  'commands': commands,
  'notebook': notebook,
}
