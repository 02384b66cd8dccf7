"""The figures of a page, as SVG that takes its colours from the page."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import io
import re
from typing import Any

import matplotlib
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
import numpy as np

from cellseg_jax.evaluation.case_study import Curve
from cellseg_jax.evaluation.roc import Roc, thin, tpr_at_fpr
from cellseg_jax.report.measures import BINS, Calibration, Sizes

# Colours that no figure has otherwise, and the page's that take their place:
# so a figure is right on light and on dark, on screen and on paper.
_INK, _FAINT, _FIRST, _SECOND, _THIRD = (f'#0{n}0{n}0{n}' for n in range(1, 6))
_OF_THE_PAGE = {
  _INK: 'var(--ink)',
  _FAINT: 'var(--rule)',
  _FIRST: 'var(--first)',
  _SECOND: 'var(--second)',
  _THIRD: 'var(--third)',
}
_STYLE = {
  'svg.fonttype': 'none',
  'font.size': 10,
  'font.family': 'sans-serif',
  'axes.edgecolor': _INK,
  'axes.labelcolor': _INK,
  'axes.titlecolor': _INK,
  'axes.titlesize': 10,
  'axes.titlelocation': 'left',
  'axes.spines.top': False,
  'axes.spines.right': False,
  'axes.linewidth': 0.8,
  'axes.grid': True,
  'axes.axisbelow': True,
  'grid.color': _FAINT,
  'grid.linewidth': 0.8,
  'xtick.color': _INK,
  'ytick.color': _INK,
  'text.color': _INK,
  'legend.frameon': False,
  'legend.fontsize': 9,
  'lines.linewidth': 1.8,
  'lines.markersize': 4,
}
_WIDTH, _HEIGHT = 4.6, 3.1  # Of a panel, in inches.


def training(metrics: Sequence[Mapping[str, Any]]) -> str:
  """Draws loss and learning rate over the steps."""
  lines = [line for line in metrics if line.get('loss') is not None]
  steps = [line['step'] for line in lines]
  with _drawing('training', 2) as (figure, (left, right)):
    left.plot(steps, [line['loss'] for line in lines], color=_FIRST)
    left.set(title='Loss (weighted mean over pixels)', xlabel='step')
    left.set_ylim(bottom=0)
    rates = [line['learning_rate'] for line in lines]
    right.plot(steps, rates, color=_FIRST)
    right.set(title='Learning rate', xlabel='step')
    right.set_ylim(bottom=0)
    right.ticklabel_format(axis='y', scilimits=(-3, 3))
    return _svg(figure)


def metrics_over_time(metrics: Sequence[Mapping[str, Any]]) -> str:
  """Draws ROC AUC and F1 of both splits over the steps."""
  lines = [line for line in metrics if 'validation' in line]
  steps = [line['step'] for line in lines]
  with _drawing('metrics', 2) as (figure, panels):
    for axes, name, title in zip(
      panels,
      ('roc_auc', 'mean_f1'),
      ('Pixelwise ROC AUC', 'F1, mean over IoU 0.5 to 0.9'),
      strict=True,
    ):
      for split, colour in (('training', _SECOND), ('validation', _FIRST)):
        values = [line[split][name] for line in lines]
        axes.plot(steps, values, '-o', color=colour, label=split)
      axes.set(title=title, xlabel='step')
      axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
      axes.legend()
    panels[1].set_ylim(0, 1)
    return _svg(figure)


def roc(
  curves: Mapping[str, Roc], threshold: float, points: Mapping[str, Curve]
) -> str:
  """Draws the upper left part of the ROC beside the case study's.

  Args:
    curves: `training` and `validation`.
    threshold: The one used on the validation images.
    points: Name to a curve of `case_study`.
  """
  with _drawing('roc', 1, width=1.25, height=1.3) as (figure, (axes,)):
    for (name, curve), colour in zip(
      curves.items(), (_SECOND, _FIRST), strict=True
    ):
      thinned = thin(curve)
      label = f'{name}, AUC {curve.auc:.3f}'
      axes.plot(thinned.fpr, thinned.tpr, color=colour, label=label)
    fpr, tpr = operating_point(curves['validation'], threshold)
    label = f'threshold {threshold:.2f}'
    axes.plot(
      fpr, tpr, 'o', color=_FIRST, markersize=8, label=label, clip_on=False
    )
    for (name, curve), style in zip(points.items(), ('s:', 'o:'), strict=True):
      label = f'case study, {name}, AUC {curve.auc:.3f}'
      x, y = zip(*curve.tpr_at_fpr.items(), strict=True)
      axes.plot(x, y, style, color=_THIRD, linewidth=1.2, label=label)
    lowest = min([0.7] + [tpr_at_fpr(c, 0.01) for c in curves.values()])
    axes.set(
      xlabel='false positive rate',
      ylabel='true positive rate',
      xlim=(0, max(0.2, 1.1 * fpr)),
      ylim=(max(np.floor(10 * lowest) / 10, 0), 1.005),
    )
    axes.legend(loc='lower right')
    return _svg(figure)


def operating_point(curve: Roc, threshold: float) -> tuple[float, float]:
  """Returns false and true positive rate at a threshold, read off a curve."""
  ascending = np.s_[::-1]
  return tuple(
    float(np.interp(threshold, curve.thresholds[ascending], rates[ascending]))
    for rates in (curve.fpr, curve.tpr)
  )


def f1_over_iou(evaluation: Mapping[str, Any]) -> str:
  """Draws the F1 of the cells against the IoU that a match must exceed."""
  with _drawing('f1', 1, width=1.25, height=1.3) as (figure, (axes,)):
    for split, colour in (('training', _SECOND), ('validation', _FIRST)):
      f1 = evaluation[split]['f1']
      x = [float(iou) for iou in f1]
      axes.plot(x, list(f1.values()), '-o', color=colour, label=split)
    axes.set(
      xlabel='IoU above which a cell counts as found',
      ylabel='F1 of the cells',
      ylim=(0, 1.02),
    )
    axes.legend(loc='lower left')
    return _svg(figure)


def reliability(found: Calibration) -> str:
  """Draws the share of cell pixels over the probability that was said."""
  with _drawing('reliability', 2) as (figure, (left, right)):
    left.plot([0, 1], [0, 1], ':', color=_INK, linewidth=1, label='ideal')
    left.plot(
      found.predicted, found.observed, '-o', color=_FIRST, label='validation'
    )
    left.set(
      title='Share of pixels that are cell',
      xlabel='probability',
      xlim=(0, 1),
      ylim=(0, 1),
    )
    left.legend(loc='upper left')
    middles = (np.arange(BINS) + 0.5) / BINS
    right.bar(
      middles, found.pixels / found.pixels.sum(), 0.9 / BINS, color=_FIRST
    )
    right.set(
      title='Share of all pixels',
      xlabel='probability',
      xlim=(0, 1),
      yscale='log',
    )
    return _svg(figure)


def size_comparison(found: Sizes) -> str:
  """Draws the sizes of labelled and of found cells, together and in pairs."""
  everything = np.concatenate([found.true, found.found])
  top = float(np.percentile(everything, 99.5)) * 1.15 if everything.size else 1
  with _drawing('sizes', 2) as (figure, (left, right)):
    edges = np.linspace(0, top, 25)
    for values, colour, label in (
      (found.true, _SECOND, f'labelled ({found.true.size})'),
      (found.found, _FIRST, f'found ({found.found.size})'),
    ):
      left.hist(
        values, edges, histtype='step', color=colour, label=label, linewidth=1.8
      )
    left.set(title='Cells', xlabel='diameter in pixels', xlim=(0, top))
    left.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    left.legend(loc='upper left')
    right.plot([0, top], [0, top], ':', color=_INK, linewidth=1)
    right.plot(
      *found.pairs.T, 'o', color=_FIRST, markersize=3, alpha=0.6, mew=0
    )
    right.set(
      title='Diameter found, of cells with a match',
      xlabel='labelled diameter in pixels',
      xlim=(0, top),
      ylim=(0, top),
    )
    return _svg(figure)


def size_histogram(diameters: np.ndarray) -> str:
  """Draws the sizes of the training cells."""
  with _drawing('histogram', 1, width=1.6) as (figure, (axes,)):
    axes.hist(diameters, 30, color=_FIRST)
    axes.set(xlabel='diameter in pixels', ylabel='cells')
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return _svg(figure)


def over_frames(
  counts: np.ndarray, areas: Sequence[np.ndarray], along: str
) -> str:
  """Draws how many cells there are, and how large, one image after another.

  Args:
    counts: Cells of each image, (N,).
    areas: Of each its cells' areas in pixels.
    along: What the images are, such as 'file'.
  """
  place = np.arange(1, len(counts) + 1)
  quartiles = np.array(
    [
      np.percentile(diameters, (25, 50, 75)) if diameters.size else [np.nan] * 3
      for diameters in areas
    ]
  )
  with _drawing('frames', 2) as (figure, (left, right)):
    style = {'color': _FIRST, 'markersize': 3}
    left.plot(place, counts, '-o', **style)
    left.set(title='Cells', xlabel=along)
    left.set_ylim(bottom=0)
    low, middle, high = quartiles.T
    right.fill_between(place, low, high, color=_FIRST, alpha=0.25, lw=0)
    right.plot(place, middle, '-o', **style)
    right.set(title='Area in pixels: median, middle half', xlabel=along)
    right.set_ylim(bottom=0)
    for axes in (left, right):
      axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
    return _svg(figure)


@contextlib.contextmanager
def _drawing(
  name: str, columns: int, width: float = 1.0, height: float = 1.0
) -> Iterator[tuple[Figure, list[Axes]]]:
  """Lends a figure of panels side by side, in the style of the pages."""
  # A name of its own: ids within the SVG must differ from other figures'.
  with matplotlib.rc_context(_STYLE | {'svg.hashsalt': name}):
    size = _WIDTH * width * columns, _HEIGHT * height
    figure = Figure(figsize=size, layout='constrained')
    figure.patch.set_alpha(0)
    panels = list(np.ravel(figure.subplots(1, columns)))
    for axes in panels:
      axes.patch.set_alpha(0)
    yield figure, panels


def _svg(figure: Figure) -> str:
  """Returns a figure as an SVG element of the page's width and colours."""
  file = io.StringIO()
  figure.savefig(file, format='svg', metadata={'Date': None})
  text = file.getvalue()
  text = text[text.index('<svg') :]
  text = re.sub(r' (width|height)="[\d.]+pt"', '', text, count=2)
  text = re.sub(r'<metadata>.*?</metadata>', '', text, flags=re.S)
  for colour, of_the_page in _OF_THE_PAGE.items():
    text = text.replace(colour, of_the_page)
  return text
