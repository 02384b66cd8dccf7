"""The charts of the reports; every function returns an SVG element."""

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
import numpy as np
from numpy.typing import ArrayLike

from cellseg_jax.evaluation.case_study import Curve
from cellseg_jax.evaluation.roc import Roc, thin, tpr_at_fpr
from cellseg_jax.report.drawing import (
  drawing,
  FIRST,
  INK,
  SECOND,
  SPLITS,
  svg,
  THIRD,
)
from cellseg_jax.report.measures import BINS, Calibration, Sizes


def loss(metrics: Sequence[Mapping[str, Any]]) -> str:
  """Draws the loss against the step."""
  lines = [line for line in metrics if line.get('loss') is not None]
  with drawing('loss') as axes:
    _over_steps(axes, lines, [line['loss'] for line in lines])
    axes.set_ylabel('loss')
    axes.set_ylim(bottom=0)
    return svg(axes)


def learning_rate(metrics: Sequence[Mapping[str, Any]]) -> str:
  """Draws the learning rate against the step."""
  lines = [line for line in metrics if 'learning_rate' in line]
  with drawing('learning_rate') as axes:
    rates = np.array([line['learning_rate'] for line in lines])
    _over_steps(axes, lines, 1e4 * rates)
    axes.set_ylabel('learning rate / 0.0001')
    axes.set_ylim(bottom=0)
    return svg(axes)


def score(metrics: Sequence[Mapping[str, Any]], name: str, title: str) -> str:
  """Draws a score of both splits against the step.

  Args:
    metrics: Lines of the run's `metrics.jsonl`.
    name: Name of the score in them, such as 'roc_auc'.
    title: Label of the axis.
  """
  lines = [line for line in metrics if 'validation' in line]
  with drawing(f'score_{name}') as axes:
    for split, colour in SPLITS.items():
      values = [line[split][name] for line in lines]
      _over_steps(axes, lines, values, '-o', color=colour, label=split)
    axes.set_ylabel(title)
    axes.legend()
    return svg(axes)


def _over_steps(
  axes: Axes,
  lines: Sequence[Mapping[str, Any]],
  values: ArrayLike,
  style: str = '-',
  color: str = FIRST,
  **options: Any,
) -> None:
  axes.plot(
    [line['step'] for line in lines], values, style, color=color, **options
  )
  axes.set_xlabel('step')
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))


def roc(
  curves: Mapping[str, Roc], threshold: float, points: Mapping[str, Curve]
) -> str:
  """Draws the upper left part of the ROC, with the case study's for comparison.

  Args:
    curves: The curves of 'training' and 'validation'.
    threshold: Foreground threshold, marked on the validation curve.
    points: Digitised curves of the case study by name.
  """
  with drawing('roc', height=4.3) as axes:
    for split, colour in SPLITS.items():
      curve = thin(curves[split])
      label = f'{split}, AUC {curve.auc:.3f}'
      axes.plot(curve.fpr, curve.tpr, color=colour, label=label)
    fpr, tpr = operating_point(curves['validation'], threshold)
    label = f'threshold {threshold:.2f}'
    axes.plot(
      fpr, tpr, 'o', color=FIRST, markersize=8, label=label, clip_on=False
    )
    for (name, known), style in zip(points.items(), ('s:', 'o:'), strict=True):
      label = f'case study, {name}, AUC {known.auc:.3f}'
      x, y = zip(*known.tpr_at_fpr.items(), strict=True)
      axes.plot(x, y, style, color=THIRD, linewidth=1.2, label=label)
    lowest = min([0.7] + [tpr_at_fpr(c, 0.01) for c in curves.values()])
    axes.set(
      xlabel='false positive rate',
      ylabel='true positive rate',
      xlim=(0, max(0.2, 1.1 * fpr)),
      ylim=(max(np.floor(10 * lowest) / 10, 0), 1.005),
    )
    axes.legend(loc='lower right')
    return svg(axes)


def operating_point(curve: Roc, threshold: float) -> tuple[float, float]:
  """Returns false and true positive rate of a curve at a threshold."""
  # Reversed, since thresholds decrease and `interp` needs increasing ones.
  fpr, tpr = (
    float(np.interp(threshold, curve.thresholds[::-1], rates[::-1]))
    for rates in (curve.fpr, curve.tpr)
  )
  return fpr, tpr


def f1_over_iou(evaluation: Mapping[str, Any]) -> str:
  """Draws the F1 of the cells against the IoU threshold of a match.

  Args:
    evaluation: The dictionaries that `evaluate` returns, by split.
  """
  with drawing('f1', height=4.3) as axes:
    for split, colour in SPLITS.items():
      f1 = evaluation[split]['f1']
      x = [float(iou) for iou in f1]
      axes.plot(x, list(f1.values()), '-o', color=colour, label=split)
    axes.set(
      xlabel='IoU above which a cell counts as found',
      ylabel='F1 of the cells',
      ylim=(0, 1.02),
    )
    axes.legend(loc='lower left')
    return svg(axes)


def reliability(found: Calibration) -> str:
  """Draws the share of cell pixels against the predicted probability."""
  with drawing('reliability') as axes:
    axes.plot([0, 1], [0, 1], ':', color=INK, linewidth=1)
    axes.plot(found.predicted, found.observed, '-o', color=FIRST)
    axes.set(
      xlabel='probability',
      ylabel='share of pixels that are cell',
      xlim=(0, 1),
      ylim=(0, 1),
    )
    return svg(axes)


def share_of_pixels(found: Calibration) -> str:
  """Draws the share of pixels in each range of probabilities."""
  with drawing('share_of_pixels') as axes:
    middles = (np.arange(BINS) + 0.5) / BINS
    share = found.pixels / found.pixels.sum()
    axes.bar(middles, share, 0.9 / BINS, color=FIRST)
    axes.set(
      xlabel='probability',
      ylabel='share of all pixels',
      xlim=(0, 1),
      yscale='log',
      ylim=(min(1e-3, 0.5 * min(share[share > 0])), 1),
    )
    return svg(axes)


def sizes(found: Sizes) -> str:
  """Draws histograms of the sizes of all labelled and all found cells."""
  with drawing('sizes') as axes:
    edges: Any = np.linspace(0, _largest(found), 25)
    for values, colour, label in (
      (found.true, SECOND, f'labelled ({found.true.size})'),
      (found.found, FIRST, f'found ({found.found.size})'),
    ):
      axes.hist(
        values, edges, histtype='step', color=colour, label=label, linewidth=1.8
      )
    axes.set(xlabel='diameter in pixels', ylabel='cells', xlim=(0, edges[-1]))
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    axes.legend()
    return svg(axes)


def size_pairs(found: Sizes) -> str:
  """Draws the found size of each matched cell against the labelled size."""
  with drawing('size_pairs') as axes:
    top = _largest(found)
    axes.plot([0, top], [0, top], ':', color=INK, linewidth=1)
    axes.plot(*found.pairs.T, 'o', color=FIRST, markersize=4, alpha=0.6, mew=0)
    axes.set(
      xlabel='labelled diameter in pixels',
      ylabel='found diameter in pixels',
      xlim=(0, top),
      ylim=(0, top),
    )
    return svg(axes)


def _largest(found: Sizes) -> float:
  """Returns the upper limit of an axis of diameters."""
  return 1.08 * max(np.concatenate([found.true, found.found]), default=1.0)


def size_histogram(diameters: np.ndarray) -> str:
  """Draws a histogram of cell diameters."""
  return _histogram(diameters, 'diameter in pixels', 30)


def confidence_histogram(confidence: np.ndarray) -> str:
  """Draws a histogram of the confidences of cells."""
  return _histogram(confidence, 'confidence', np.linspace(0, 1, 41))


def _histogram(values: np.ndarray, name: str, bins: Any) -> str:
  with drawing(f'histogram_{name}', height=2.6) as axes:
    axes.hist(values, bins, color=FIRST)
    axes.set(xlabel=name, ylabel='cells')
    axes.yaxis.set_major_locator(MaxNLocator(5, integer=True))
    return svg(axes)


def counts(cells: ArrayLike, along: str) -> str:
  """Draws the number of cells, image by image.

  Args:
    cells: Number of cells in each image, (N,).
    along: What an image is, such as 'file'; the label of the axis.
  """
  with drawing('counts') as axes:
    _one_by_one(axes, np.asarray(cells), along)
    axes.set_ylabel('cells')
    return svg(axes)


def areas(quartiles: np.ndarray, along: str) -> str:
  """Draws median and quartiles of the cells' areas, image by image.

  Args:
    quartiles: Quartiles of the areas in each image, in pixels, (N, 3); NaN for
      an image without cells.
    along: What an image is, such as 'file'; the label of the axis.
  """
  with drawing('areas') as axes:
    low, middle, high = quartiles.T
    place = np.arange(1, len(middle) + 1)
    axes.fill_between(place, low, high, color=FIRST, alpha=0.25, lw=0)
    _one_by_one(axes, middle, along)
    axes.set_ylabel('area in pixels')
    return svg(axes)


def _one_by_one(axes: Axes, values: np.ndarray, along: str) -> None:
  place = np.arange(1, len(values) + 1)
  axes.plot(place, values, '-o', color=FIRST, markersize=3)
  axes.set_xlabel(along)
  axes.set_ylim(bottom=0)
  axes.xaxis.set_major_locator(MaxNLocator(6, integer=True))
