"""Export as one StableHLO program, from raw pixels to labels."""

import json
import pathlib
from typing import Any

import jax
from jax import export
import jax.numpy as jnp
import numpy as np

from cellseg_jax import serialization
from cellseg_jax.atomic import replacing
from cellseg_jax.export import agreement
from cellseg_jax.inference.on_host import segment_image
from cellseg_jax.inference.predict import Model
from cellseg_jax.inference.segment import (
  MAX_CELLS,
  segment_with_scores,
  Segmentation,
)

PLATFORMS = ('cpu', 'cuda')

# https://docs.jax.dev/en/latest/export/export.html#compatibility-guarantees
COMPATIBILITY = (
  'runs with versions of JAX up to 6 months newer and up to 3 weeks older than '
  'the one that wrote it, counted by the dates of their jaxlib releases'
)

# Shape and meaning of the fields of `Segmentation`, for programs that run
# without this package.
_OUTPUTS = {
  'labels': (('B', 'H', 'W'), '0 is background, 1 to count are the cells'),
  'count': (('B',), 'cells in the image'),
  'area': (('B', 'max_cells'), 'pixels of the cell'),
  'centroid': (
    ('B', 'max_cells', 2),
    "mean row and column, in pixels; the middle of the image's first pixel is "
    '0, 0',
  ),
  'box': (
    ('B', 'max_cells', 4),
    'first row, first column, row after the last, column after the last, in '
    'pixels',
  ),
  'confidence': (
    ('B', 'max_cells'),
    'how sure the network is of the cell, 0 to 1',
  ),
  'overflow': (('B',), 'whether there were more cells than max_cells'),
  'finite': (
    ('B',),
    'whether all pixels were finite; where not, there are no cells',
  ),
}


def export_stablehlo(
  model: Model, path: pathlib.Path, *, max_cells: int = MAX_CELLS
) -> float:
  """Writes a model as one StableHLO program, for CPUs and CUDA.

  Weights, normalisation, resampling, decoding and filters are included. The
  program takes one argument: raw intensities, float32 (B, H, W), or (B, H, W,
  C) for a model with C > 1 channels, with any B, H and W from 1 on. It returns
  the fields of the `Segmentation` that `segment_with_scores` returns, as a
  tuple with the labels first. It needs JAX to run, but not this package:

      program = jax.export.deserialize(bytearray(path.read_bytes()))
      labels, *scores = jax.jit(program.call)(images)

  Before the file takes its place, it is loaded and run on a simulated image,
  and its labels are compared with those of the decoder that the command line
  uses.

  Args:
    model: A model that `load_model` or `ensemble` returned.
    path: The file to write; its description is written beside it as JSON, with
      `.json` appended to the name.
    max_cells: Maximum number of cells per image in the outputs.

  Returns:
    F1 of the labels at an intersection over union of 0.9.

  Raises:
    AgreementError: The F1 is below `agreement.LEAST_F1`; nothing is written.
    OSError: A file cannot be written.
  """
  path = pathlib.Path(path)
  card_path = path.with_name(f'{path.name}.json')
  # As NumPy arrays: arrays on a device would tie the program to it.
  model = jax.tree.map(np.asarray, model)

  def program(images: jax.Array) -> tuple[jax.Array, ...]:
    return tuple(segment_with_scores(model, images, max_cells=max_cells))

  channels = model.config.data.channels
  shape = 'b, h, w' if channels == 1 else f'b, h, w, {channels}'
  images = jax.ShapeDtypeStruct(export.symbolic_shape(shape), jnp.float32)
  exported = export.export(jax.jit(program), platforms=PLATFORMS)(images)
  with replacing(path) as partial, replacing(card_path) as partial_card:
    partial.write_bytes(exported.serialize())
    f1 = _tried(model, partial)
    agreement.check_labels(f1)
    card = _card(model, exported, path.name, max_cells)
    card['agreement'] = {
      'f1_of_labels_at_iou_0.9': f1,
      'bound': agreement.LEAST_F1,
      'image': agreement.IMAGE,
    }
    partial_card.write_text(json.dumps(card, indent=2) + '\n')
  return f1


def _tried(model: Model, path: pathlib.Path) -> float:
  """Runs a file on the simulated image; returns the F1 of its labels."""
  image = agreement.sample_image(model)
  program = export.deserialize(bytearray(path.read_bytes()))
  theirs, *_ = jax.jit(program.call)(image[None])
  ours, _, _ = segment_image(model, image)
  return agreement.f1_of_labels(ours[None], np.asarray(theirs))


def _card(
  model: Model, exported: export.Exported, name: str, max_cells: int
) -> dict[str, Any]:
  """Returns the description of a program, ready for JSON."""
  channels = model.config.data.channels
  outputs = zip(Segmentation._fields, exported.out_avals, strict=True)
  return {
    'name': name,
    'format': 'StableHLO, serialised by jax.export',
    'input': {
      'dtype': 'float32',
      'shape': ['B', 'H', 'W'] + [channels] * (channels > 1),
      'description': 'raw intensities, as the camera gave them; B, H and W are '
      'of any size from 1',
    },
    'outputs': [
      {
        'name': field,
        'dtype': str(found.dtype),
        'shape': [
          max_cells if side == 'max_cells' else side
          for side in _OUTPUTS[field][0]
        ],
        'description': _OUTPUTS[field][1],
      }
      for field, found in outputs
    ],
    'max_cells': max_cells,
    'members': model.members,
    'settings': model.choices,
    'config': serialization.to_dict(model.config),
    'platforms': list(exported.platforms),
    'jax_version': jax.__version__,
    'calling_convention_version': exported.calling_convention_version,
    'compatibility': COMPATIBILITY,
  }
