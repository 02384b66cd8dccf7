"""Rendering of reports as single HTML files that need no network."""

import functools
import math
import pathlib
from typing import Any

import jinja2

from cellseg_jax.atomic import replace_text
from cellseg_jax.evaluation.error_pictures import COLOURS


def write_page(path: pathlib.Path, template: str, **values: Any) -> None:
  """Renders a template and writes the page atomically.

  File names and all other text among the values are escaped.

  Args:
    path: HTML file to write; its folder is created.
    template: Name of a template of this package.
    **values: Values for the template.
  """
  text = _templates().get_template(template).render(values)
  path.parent.mkdir(parents=True, exist_ok=True)
  # File names may hold bytes that are not text.
  replace_text(path, text.encode('utf-8', 'replace').decode())


def safe(markup: str) -> jinja2.utils.markupsafe.Markup:
  """Marks text as trusted HTML or SVG, made by this program."""
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
  """Formats a number with fixed decimals; '-' if None or not finite.

  >>> fixed(0.98765), fixed(None)
  ('0.988', '-')
  """
  if value is None or not math.isfinite(value):
    return '-'
  return f'{value:.{digits}f}'


def count(value: int, one: str, many: str = '') -> str:
  """Formats a count with its noun; `many` is the plural if irregular.

  >>> count(1, 'cell'), count(2345, 'cell')
  ('1 cell', '2,345 cells')
  """
  return f'{value:,} {one if value == 1 else many or one + "s"}'


def size(value: float) -> str:
  """Formats a number of bytes as MiB or GiB.

  >>> size(3 * 2**30)
  '3.0 GiB'
  """
  unit = 'GiB' if value >= 2**30 else 'MiB'
  return f'{value / 2 ** (30 if unit == "GiB" else 20):.1f} {unit}'
