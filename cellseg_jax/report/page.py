"""Pages as one file each, which ask nothing of a network."""

import functools
import math
import pathlib
from typing import Any

import jinja2

from cellseg_jax.atomic import replace_text
from cellseg_jax.evaluation.error_pictures import COLOURS


def write_page(path: pathlib.Path, template: str, **values: Any) -> None:
  """Writes a page, whole or not at all.

  Names of files, and all other text among the values, are escaped.

  Args:
    path: HTML file to write; its folder is made.
    template: Name of a template of this package.
    **values: What the template shows.
  """
  text = _templates().get_template(template).render(values)
  path.parent.mkdir(parents=True, exist_ok=True)
  # Names of files may hold bytes that are no text.
  replace_text(path, text.encode('utf-8', 'replace').decode())


def safe(markup: str) -> jinja2.utils.markupsafe.Markup:
  """Marks text as HTML or SVG that was made here."""
  return jinja2.utils.markupsafe.Markup(markup)


@functools.cache
def _templates() -> jinja2.Environment:
  environment = jinja2.Environment(
    loader=jinja2.PackageLoader(__package__),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
  )
  environment.globals['colours'] = {
    name: f'rgb({",".join(map(str, rgb))})' for name, rgb in COLOURS.items()
  }
  environment.filters |= {'fixed': fixed, 'count': count, 'size': size}
  return environment


def fixed(value: float | None, digits: int = 3) -> str:
  """Writes a number with so many digits after the point; '-' for none.

  >>> fixed(0.98765), fixed(None)
  ('0.988', '-')
  """
  if value is None or not math.isfinite(value):
    return '-'
  return f'{value:.{digits}f}'


def count(value: int, one: str, many: str = '') -> str:
  """Writes a number and what is counted.

  >>> count(1, 'cell'), count(2345, 'cell')
  ('1 cell', '2,345 cells')
  """
  return f'{value:,} {one if value == 1 else many or one + "s"}'


def size(value: float) -> str:
  """Writes bytes.

  >>> size(3 * 2**30)
  '3.0 GiB'
  """
  unit = 'GiB' if value >= 2**30 else 'MiB'
  return f'{value / 2 ** (30 if unit == "GiB" else 20):.1f} {unit}'
