"""Figures like those of the case study, as PNG files in a run's folder."""

from collections.abc import Mapping
import pathlib

from matplotlib.axes import Axes
from matplotlib.figure import Figure
import numpy as np
from scipy import ndimage
from skimage.segmentation import find_boundaries

from cellseg_jax.atomic import replacing
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.evaluation import case_study
from cellseg_jax.evaluation.roc import Roc, thin, tpr_at_fpr
from cellseg_jax.images.pictures import grey, label_colours

_PANEL = 4.6  # Width of a panel, in inches.
_DPI = 150


def training_image(path: str | pathlib.Path, labelled: LabelledImage) -> None:
  """Draws a training image, its cell mask and the edges of its cells.

  Args:
    path: PNG file to write.
    labelled: The image. In the mask, touching cells each lose one pixel where
      they meet.
  """
  labels = labelled.labels
  edges = find_boundaries(labels, mode='inner')
  between = edges & ~find_boundaries(labels > 0, mode='inner')
  # An outline of one pixel would vanish when the figure is scaled down.
  thickness = round(labels.shape[1] / (_PANEL * _DPI))
  edges = ndimage.maximum_filter(edges, max(thickness, 1))
  figure, axes = _panels(labels.shape, 1, 3)
  _show(axes[0], _shown(labelled.image), f'Image: {labelled.name}')
  _show(axes[1], (labels > 0) & ~between, 'Cell mask')
  _show(axes[2], edges, 'Cell edges')
  _save(figure, path)


def augmentation(
  path: str | pathlib.Path,
  original: np.ndarray,
  crop: np.ndarray,
  target: np.ndarray,
  weight: np.ndarray,
) -> None:
  """Draws an image beside one augmented crop, its target and its weights.

  Args:
    path: PNG file to write.
    original: Intensities in any range, (H, W) or (H, W, C).
    crop: Augmented intensities, (S, S) or (S, S, C).
    target: Foreground target of the crop's pixels, (S, S); 1 is cell.
    weight: Weight of the crop's pixels in the loss, (S, S), non-negative.
  """
  figure, axes = _panels(crop.shape, 1, 4)
  _show(axes[0], _shown(original), 'Original image')
  _show(axes[1], _shown(crop), 'Augmented crop')
  _show(axes[2], target, 'Its target')
  drawn = axes[3].imshow(weight, cmap='viridis', vmin=0)
  axes[3].set(title='Its weight in the loss', xticks=[], yticks=[])
  figure.colorbar(drawn, ax=axes[3], shrink=0.7)
  _save(figure, path)


def crops(
  path: str | pathlib.Path,
  images: np.ndarray,
  targets: np.ndarray,
  weights: np.ndarray,
) -> None:
  """Draws the crops of an update, one per row: pixels, targets, weights.

  Args:
    path: PNG file to write.
    images: Normalised intensities, (N, S, S, C).
    targets: (N, S, S, M), 0 to 1; the first, the foreground, is drawn.
    weights: (N, S, S), non-negative.
  """
  figure, axes = _panels(images.shape[1:3], len(images), 3)
  rows = zip(images, targets, weights, strict=True)
  for number, (image, target, weight) in enumerate(rows):
    own = axes[3 * number : 3 * number + 3]
    _show(own[0], _shown(image), f'Sample {number}')
    _show(own[1], target[..., 0], 'Its target')
    _show(own[2], weight / max(weight.max(), 1e-6), 'Its weight')
  _save(figure, path)


def composite(image: np.ndarray, probability: np.ndarray) -> np.ndarray:
  """Colours an image by the foreground probability.

  Colours run from blue (background) through green (undecided) to red (cell), as
  in the case study (Levine 2018, "Segmentation results").

  Args:
    image: Intensities in any range, (H, W) or (H, W, C); they set the
      brightness of the colours, which is at least a quarter.
    probability: Float (H, W), 0 to 1.

  Returns:
    RGB, float64 (H, W, 3), 0 to 1.
  """
  red = np.clip(2 * probability - 1, 0, 1)
  blue = np.clip(1 - 2 * probability, 0, 1)
  colour = np.stack((red, 1 - red - blue, blue), axis=-1)
  # Mixed colours would be darker, but brightness shall show the image alone.
  colour = colour / colour.max(axis=-1, keepdims=True)
  return colour * (0.25 + 0.75 * grey(image))[..., None]


def prediction(
  path: str | pathlib.Path, image: np.ndarray, probability: np.ndarray
) -> None:
  """Draws an image, its foreground probability and the composite of both.

  Args:
    path: PNG file to write.
    image: Intensities in any range, (H, W) or (H, W, C).
    probability: Float (H, W), 0 to 1.
  """
  figure, axes = _panels(image.shape[:2], 1, 3)
  _show(axes[0], _shown(image), 'Image')
  _show_probability(axes[1], probability)
  mixed = composite(image, probability)
  _show(axes[2], mixed, 'Composite: 0 blue, 0.5 green, 1 red')
  _save(figure, path)


def segmentation(
  path: str | pathlib.Path,
  image: np.ndarray,
  probability: np.ndarray,
  labels: np.ndarray,
  training_roc: Roc | None,
  validation_roc: Roc | None,
) -> None:
  """Draws an image, its probability, its label image and the ROC curves.

  Args:
    path: PNG file to write.
    image: Intensities in any range, (H, W) or (H, W, C).
    probability: Foreground probability, float (H, W), 0 to 1.
    labels: The decoded cells, integer (H, W); 0 is background.
    training_roc: ROC curve of the training images; None draws none.
    validation_roc: ROC curve of the validation images; None draws none.
  """
  figure, axes = _panels(image.shape[:2], 2, 2)
  _show(axes[0], _shown(image), 'Image')
  _show_probability(axes[1], probability)
  cells = np.unique(labels[labels > 0]).size
  _show(axes[2], label_colours(labels), f'Label mask: {cells} cells')
  curves = {'training': training_roc, 'validation': validation_roc}
  _draw_roc(axes[3], {k: v for k, v in curves.items() if v is not None})
  _save(figure, path)


def _shown(image: np.ndarray) -> np.ndarray:
  """Returns three channels as red, green and blue, others as grey."""
  if image.ndim == 3 and image.shape[2] == 3:
    return np.stack([grey(image[..., c]) for c in range(3)], axis=-1)
  return grey(image)


def _panels(
  shape: tuple[int, ...], rows: int, columns: int
) -> tuple[Figure, list[Axes]]:
  """Returns a figure, and its panels in the aspect ratio of an image."""
  height = _PANEL * np.clip(shape[0] / shape[1], 0.7, 1.6) + 0.3
  size = _PANEL * columns, height * rows
  figure = Figure(figsize=size, dpi=_DPI, layout='compressed')
  return figure, list(np.ravel(figure.subplots(rows, columns)))


def _show(axes: Axes, picture: np.ndarray, title: str) -> None:
  axes.imshow(picture, cmap='gray', vmin=0, vmax=1)
  axes.set(title=title, xticks=[], yticks=[])


def _show_probability(axes: Axes, probability: np.ndarray) -> None:
  drawn = axes.imshow(probability, cmap='gray', vmin=0, vmax=1)
  axes.set(title='Probability of cell', xticks=[], yticks=[])
  axes.figure.colorbar(drawn, ax=axes, shrink=0.8)


def _draw_roc(axes: Axes, curves: Mapping[str, Roc]) -> None:
  """Draws the upper left part of the ROC, which has the useful thresholds."""
  for (name, roc), colour in zip(curves.items(), ('C0', 'C1'), strict=False):
    label = f'{name}, AUC {roc.auc:.3f}'
    axes.plot(thin(roc).fpr, thin(roc).tpr, color=colour, label=label)
  label = f'2018 case study (test), AUC {case_study.TEST.auc:.3f}'
  points = np.array(list(case_study.TEST.tpr_at_fpr.items())).T
  axes.plot(*points, 'k:o', markersize=4, label=label)
  lowest = min([0.7] + [tpr_at_fpr(roc, 0.01) for roc in curves.values()])
  axes.set(
    title='Pixelwise ROC',
    xlabel='false positive rate',
    ylabel='true positive rate',
    xlim=(0, 0.2),
    xticks=np.arange(5) / 20,
    ylim=(np.floor(10 * lowest) / 10, 1.005),
  )
  axes.set_box_aspect(0.8)
  axes.grid(alpha=0.3)
  axes.legend(loc='lower right')


def _save(figure: Figure, path: str | pathlib.Path) -> None:
  with replacing(path) as partial:
    figure.savefig(partial, format='png', bbox_inches='tight', pad_inches=0.1)
