"""Export as an ONNX file with a JSON card beside it."""

import json
import pathlib

from cellseg_jax.atomic import replacing
from cellseg_jax.export import agreement, onnx_graph, onnx_runtime
from cellseg_jax.export.card import describe
from cellseg_jax.inference.predict import Model


def export_onnx(model: Model, path: pathlib.Path) -> float:
  """Writes the network as ONNX, and its card at `path` with '.json' appended.

  Before both take their places, ONNX Runtime runs the file on a simulated
  image, and the maps are compared with those of the model.

  Args:
    model: A model that `load_model` or `ensemble` returned.
    path: The file to write; an existing one is replaced.

  Returns:
    The largest difference between map values of the file and the model.

  Raises:
    AgreementError: The maps have other names or shapes or hold NaN, or the
      difference is more than `agreement.BOUND`; nothing is written.
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
