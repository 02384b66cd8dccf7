"""The style of the charts: SVG that takes its colours from the page."""

from collections.abc import Iterator
import contextlib
import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure

# Placeholder colours, which no figure has otherwise, and the page's colours
# that replace them: so a figure suits light and dark pages, screen and paper.
INK, FAINT, FIRST, SECOND, THIRD = (f'#0{n}0{n}0{n}' for n in range(1, 6))
_OF_THE_PAGE = {
  INK: 'var(--ink)',
  FAINT: 'var(--rule)',
  FIRST: 'var(--first)',
  SECOND: 'var(--second)',
  THIRD: 'var(--third)',
}
SPLITS = {'training': SECOND, 'validation': FIRST}
_STYLE = {
  'svg.fonttype': 'none',
  'font.size': 10,
  'font.family': 'sans-serif',
  'axes.edgecolor': INK,
  'axes.labelcolor': INK,
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.linewidth': 0.8,
  'axes.grid': True,
  'axes.axisbelow': True,
  'grid.color': FAINT,
  'grid.linewidth': 0.8,
  'xtick.color': INK,
  'ytick.color': INK,
  'text.color': INK,
  'legend.frameon': False,
  'legend.fontsize': 9,
  'lines.linewidth': 1.8,
  'lines.markersize': 4,
}
_SIZE = 5.2, 3.4  # In inches; two side by side fill the width of a page.


@contextlib.contextmanager
def drawing(name: str, height: float = _SIZE[1]) -> Iterator[Axes]:
  """Yields the axes of a figure in the style of the reports.

  Args:
    name: Unique among the figures of a page.
    height: Height of the figure in inches.
  """
  # The salt makes ids inside the SVG differ from those of other figures.
  style: Any = _STYLE | {'svg.hashsalt': name}
  with matplotlib.rc_context(style):
    figure = Figure(figsize=(_SIZE[0], height))
    # The same margins in all figures: axes line up, without computing a layout.
    axes = figure.add_axes(
      (0.14, 0.5 / height, 0.84, 1 - (0.5 + 0.15) / height)
    )
    for patch in (figure.patch, axes.patch):
      patch.set_alpha(0)
    yield axes


def svg(axes: Axes) -> str:
  """Returns a figure as an SVG element with the page's width and colours."""
  file = io.StringIO()
  figure = axes.get_figure(root=True)
  assert figure is not None
  figure.savefig(file, format='svg', metadata={'Date': None})
  text = file.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r' (width|height)="[\d.]+pt"', '', text, count=2)
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.S)
  text = re.sub(r'<g id="[^"]*"', '<g', text)  # Ids that all figures share.
  for colour, of_the_page in _OF_THE_PAGE.items():
    text = text.replace(colour, of_the_page)
  return text
