"""Draws the PNG pictures of the studies."""

from collections.abc import Mapping, Sequence
import math
import pathlib
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
import numpy as np

from cellseg_jax.images.pictures import grey
from cellseg_jax.studies import curve
from cellseg_jax.studies.held_out import HeldOut
from cellseg_jax.studies.suspects import Suspect

_DPI = 130
# From the palette of Okabe & Ito, which colour-blind readers can tell apart.
_LABEL, _PREDICTED = '#f0e442', '#56b4e9'
_COLUMNS = 9  # Columns of the contact sheet of suspects.
_SIDE = 1.5  # Side of a crop on the contact sheet, in inches.
# Side of a crop relative to its cell's diameter, and the minimum in pixels.
_CONTEXT, _LEAST = 2.4, 48


def cross_validation(path: pathlib.Path, report: Mapping[str, Any]) -> None:
  """Draws the scores and errors of every held-out image.

  The pooled scores of all images are drawn with their bootstrap intervals.

  Args:
    path: PNG to write.
    report: The report, as `cross_validate` returns it.
  """
  names = [*report['images'], 'all']
  own = [*report['images'].values(), report['pooled']]
  figure = Figure(figsize=(9, 0.45 * len(names) + 1.6), layout='constrained')
  axes = figure.subplots(1, 2, sharey=True)
  places = np.arange(len(names))
  for metric, value, colour in (
    ('f1.0.5', lambda one: one['f1']['0.5'], 'C0'),
    ('mean_f1', lambda one: one['mean_f1'], 'C1'),
  ):
    scores = [value(one) for one in own]
    label = 'F1 at IoU 0.5' if metric == 'f1.0.5' else 'mean F1, IoU 0.5-0.9'
    axes[0].plot(scores, places, 'o', color=colour, label=label)
    low, high = report['interval'][metric]
    axes[0].hlines(places[-1], low, high, color=colour)
  axes[0].set(
    title=f'Each image held out ({report["steps"]} steps)',
    yticks=places,
    yticklabels=names,
    xlim=(None, 1.01),
  )
  axes[0].invert_yaxis()
  axes[0].grid(alpha=0.3)
  figure.legend(
    *axes[0].get_legend_handles_labels(), loc='outside lower left', ncols=2
  )
  left = np.zeros(len(names) - 1)
  for kind in ('merged', 'split', 'missed', 'extra'):
    values = np.array([one[kind] / max(one['true'], 1) for one in own[:-1]])
    axes[1].barh(places[:-1], values, left=left, label=kind)
    left += values
  axes[1].set(title='Errors per labelled cell')
  figure.legend(
    *axes[1].get_legend_handles_labels(), loc='outside lower right', ncols=4
  )
  _save(figure, path)


def learning_curve(path: pathlib.Path, report: Mapping[str, Any]) -> None:
  """Draws the scores of the runs, their spread and the fitted curve.

  Args:
    path: PNG to write.
    report: The report, as `learning_curve.learning_curve` returns it.
  """
  figure = Figure(figsize=(6, 4.2), layout='constrained')
  axes = figure.subplots()
  runs, points = report['runs'], report['points']
  axes.plot(
    [run['images'] for run in runs],
    [run[curve.SCORE] for run in runs],
    '.',
    color='0.6',
    label='a run',
  )
  numbers, means, lowest, highest = (
    [point[name] for point in points]
    for name in ('images', 'mean', 'lowest', 'highest')
  )
  axes.plot(numbers, means, 'o', color='C0', label='mean and range')
  axes.vlines(numbers, lowest, highest, color='C0')
  if report['fit']:
    fitted, more = report['fit'], report['one_more']
    along = np.linspace(numbers[0], numbers[-1] + 1, 100)
    axes.plot(
      along,
      [curve.predicted(fitted, number) for number in along],
      label=f'{fitted["a"]:.3f} - {fitted["b"]:.3f} n^-{fitted["c"]:.2f}',
    )
    axes.plot(
      more['to'],
      curve.predicted(fitted, more['to']),
      's',
      mfc='none',
      color='C1',
      label=f'one more image: {more["gain"]:+.4f}',
    )
  axes.set(
    title=f'Learning curve ({report["steps"]} steps a run)',
    xlabel='training images',
    ylabel='mean F1, IoU 0.5-0.9',
  )
  axes.grid(alpha=0.3)
  axes.legend()
  _save(figure, path)


def suspects(
  path: pathlib.Path, ranked: Sequence[Suspect], held: Sequence[HeldOut]
) -> None:
  """Draws suspect cells, with the outlines of labels and predictions.

  Args:
    path: PNG to write.
    ranked: The cells to draw, the most suspect first.
    held: The held-out images that contain the cells.
  """
  rows = math.ceil(len(ranked) / _COLUMNS)
  figure = Figure(
    figsize=(_COLUMNS * _SIDE, rows * (_SIDE + 0.3) + 0.4), layout='constrained'
  )
  grid = figure.subplots(rows, _COLUMNS, squeeze=False).ravel()
  images = {one.image.name: one for one in held}
  bright = {one.image.name: grey(one.image.image) for one in held}
  for axes in grid:
    axes.set_axis_off()
  for number, suspect in enumerate(ranked):
    one = images[suspect.image]
    _draw_suspect(grid[number], suspect, one, bright[suspect.image])
    where = 'no label' if suspect.kind == 'unlabelled' else suspect.value
    title = f'{number + 1}: {where}, {suspect.loss:.0f}\n{suspect.image}'
    grid[number].set_title(title, fontsize=6)
  figure.legend(
    handles=[
      Line2D([], [], color=_LABEL, label='label'),
      Line2D([], [], color=_PREDICTED, label='prediction, held out'),
    ],
    loc='outside lower center',
    ncols=2,
    facecolor='0.3',
    labelcolor='white',
  )
  _save(figure, path)


def disagreements(
  path: pathlib.Path,
  images: Sequence[np.ndarray],
  deviations: Sequence[np.ndarray],
  titles: Sequence[str],
) -> None:
  """Draws images, and below each the models' disagreement on it.

  Args:
    path: PNG to write.
    images: Intensities in any range, (H, W) or (H, W, C).
    deviations: Standard deviation of the foreground probability over the models
      for each image, (H, W).
    titles: Titles of the images.
  """
  figure = Figure(figsize=(2.6 * len(images), 4.6), layout='constrained')
  grid = figure.subplots(2, len(images), squeeze=False)
  for column, image in enumerate(images):
    grid[0, column].imshow(grey(image), cmap='gray', vmin=0, vmax=1)
    grid[0, column].set_title(titles[column], fontsize=7)
    grid[1, column].imshow(deviations[column], cmap='magma', vmin=0, vmax=0.5)
  for axes in grid.ravel():
    axes.set_axis_off()
  _save(figure, path)


def _draw_suspect(
  axes: Axes, suspect: Suspect, held: HeldOut, bright: np.ndarray
) -> None:
  diameter = 2 * math.sqrt(suspect.area / math.pi)
  half = round(max(_CONTEXT * diameter, _LEAST) / 2)
  rows, columns = (
    slice(max(round(middle) - half, 0), round(middle) + half)
    for middle in (suspect.row, suspect.column)
  )
  axes.imshow(bright[rows, columns] ** 0.7, cmap='gray', vmin=0, vmax=1)
  for labels, colour in (
    (held.image.labels, _LABEL),
    (held.predicted, _PREDICTED),
  ):
    crop = labels[rows, columns]
    for value in np.unique(crop[crop > 0]):
      axes.contour(crop == value, [0.5], colors=colour, linewidths=0.7)


def _save(figure: Figure, path: pathlib.Path) -> None:
  figure.savefig(path, format='png', dpi=_DPI)
