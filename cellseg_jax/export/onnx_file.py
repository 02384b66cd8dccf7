"""A model as an ONNX file with a JSON card beside it."""

import json
import pathlib

from cellseg_jax.atomic import replacing
from cellseg_jax.export import agreement, onnx_graph, onnx_runtime
from cellseg_jax.export.card import describe
from cellseg_jax.inference.predict import Model


def export_onnx(model: Model, path: pathlib.Path) -> float:
  """Writes the network as ONNX, and its card at `path` with '.json' appended.

  Before they take their places, the file is run by ONNX Runtime on a simulated
  image and compared with the model.

  Args:
    model: As `load_model` or `ensemble` returns.
    path: The file to write; an older one is replaced.

  Returns:
    The largest difference of a map's value that was found.

  Raises:
    AgreementError: It is more than `agreement.BOUND`; nothing is written.
    OSError: A file cannot be written.
  """
  card_path = path.with_name(f'{path.name}.json')
  with replacing(path) as partial, replacing(card_path) as partial_card:
    partial.write_bytes(onnx_graph.build(model).SerializeToString())
    pixels = agreement.normalized_pixels(model, agreement.sample_image(model))
    worst = agreement.worst_difference(
      agreement.maps_of_pixels(model, pixels), onnx_runtime.run(partial, pixels)
    )
    agreement.check(worst)
    card = describe(
      model,
      ('jax2onnx', 'onnx', 'onnxruntime'),
      name=path.name,
      format=f'ONNX, opset {onnx_graph.OPSET}',
      agreement={
        'largest_difference': worst,
        'bound': agreement.BOUND,
        'image': agreement.IMAGE,
      },
    )
    partial_card.write_text(json.dumps(card, indent=2) + '\n')
  return worst
