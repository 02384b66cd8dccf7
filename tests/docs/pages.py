"""The pages of the documentation, and the code in them."""

import pathlib
import re
import shlex
from typing import NamedTuple

ROOT = pathlib.Path(__file__).parents[2]
PAGES = (
  *(ROOT / name for name in ('README.md', 'BUILD.md', 'CONTRIBUTING.md')),
  *sorted((ROOT / 'docs').rglob('*.md')),
)
RUN = ('bash', 'python')
SHOWN = ('text', 'math')  # Not code to run.
_BLOCK = re.compile(r'^( *)```([^\n]*)\n(.*?)^\1```$', re.MULTILINE | re.DOTALL)
_TITLE = re.compile(r' title="Not run by the tests: ([^"]+)"')


class Block(NamedTuple):
  """A block of code.

  Attributes:
    language: As the page says.
    code: The lines, not indented.
    reason: Why the page says that it is not run; '' where it is.
  """

  language: str
  code: str
  reason: str


def blocks(page):
  """The blocks of a page, in order."""
  found = []
  for indent, info, code in _BLOCK.findall(page.read_text()):
    language, _, rest = info.partition(' ')
    title = _TITLE.fullmatch(f' {rest}')
    assert title or not rest, f'{page}: ```{info}'
    code = re.sub(f'^{indent}', '', code, flags=re.MULTILINE)
    found.append(Block(language, code, title[1] if title else ''))
  return found


def commands(code):
  """The commands in a block of bash, each as its words."""
  lexer = shlex.shlex(
    # Comments end with a line, and so do commands.
    code.replace('\\\n', ' ').replace('\n', '\n;'),
    posix=True,
    punctuation_chars=True,
  )
  lexer.whitespace_split = True
  found = [[]]
  for word in lexer:
    if set(word) <= set('();<>|&'):
      found.append([])
    else:
      found[-1].append(re.sub(r'\$\w+', '1', word))
  return [words for words in found if words]
