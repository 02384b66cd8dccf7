"""Documentation and citations in a BioImage.IO package."""

from collections.abc import Mapping
import json
from typing import Any

CITATIONS = (
  {
    'text': 'Szegedy et al., Going deeper with convolutions, CVPR 2015',
    'doi': '10.1109/CVPR.2015.7298594',
  },
  {
    'text': 'Long et al., Fully convolutional networks for semantic '
    'segmentation, CVPR 2015',
    'doi': '10.1109/CVPR.2015.7298965',
  },
)

_DOCUMENTATION = """# A cell segmentation model

A GoogLeNet-based fully convolutional network, trained by cellseg_jax on
labelled microscopy images. It takes raw intensities of any size and returns, at
the same size:

{outputs}

## What is in the package

Normalisation (`scale_range`), resampling by {resample:g} and back, padding to
multiples of 32, and the network. Cells in the training images were about
{diameter:g} pixels across (0: not known); bring images of other scale to that.

The normalisation is as near as the vocabulary of BioImage.IO allows. It differs
from the model's own in three things: the percentiles are those of all pixels,
the model's those of about {sample} on a grid; 1e-6 is added to the range; and
the range of an almost empty field is not widened to {noise_floor:g} standard
deviations of its noise, so that such fields are noise stretched to full
contrast.

Not in the package: averaging over flips and quarter turns ({turns} in this
model) and the decoder that makes labels of the maps ({method}). `card.json`
holds its settings:

```json
{decoder}
```

## Validation

Compare labels decoded from the maps with hand-made ones, cell by cell: F1 at
several thresholds of the intersection over union, on images that were not
trained on.
"""


def documentation(card: Mapping[str, Any]) -> str:
  """Writes the documentation of a package.

  Args:
    card: The card that `card.describe` returned.

  Returns:
    Markdown.
  """
  outputs = [f'- `{o["name"]}`: {o["meaning"]}.' for o in card['outputs']]
  return _DOCUMENTATION.format(
    outputs='\n'.join(outputs),
    resample=card['resample'],
    diameter=card['diameter'],
    sample=card['normalization']['sample'],
    noise_floor=card['normalization']['noise_floor'],
    turns='on' if card['turns'] else 'off',
    method=card['decoder']['method'],
    decoder=json.dumps(card['decoder'], indent=2),
  )
