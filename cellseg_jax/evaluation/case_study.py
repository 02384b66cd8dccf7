"""ROC curves of the 2018 case study, for comparison in figures and reports.

J. Levine, "Segmenting complex cells with CNNs" (2018), last figure: pixelwise
ROC of one held-out and one training image of mouse embryonic stem cells. The
points were digitised from the figure; the areas are accurate to 0.001.
"""

from typing import NamedTuple


class Curve(NamedTuple):
  """Digitised points of a ROC curve, and its area.

  Attributes:
    auc: Area under the whole curve.
    tpr_at_fpr: True positive rate at false positive rates.
  """

  auc: float
  tpr_at_fpr: dict[float, float]


TEST = Curve(0.989, {0.01: 0.73, 0.02: 0.82, 0.05: 0.93, 0.1: 0.99})
TRAINING = Curve(0.997, {0.01: 0.90, 0.02: 0.95, 0.05: 1.0, 0.1: 1.0})
