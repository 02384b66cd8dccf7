"""Prints how every way of running a model agrees with the reference.

  python tests/benchmarks/agreement.py MODEL=DATA [MODEL=DATA...]

DATA holds `validation/images/`. The reference is `predict_maps` with the NumPy
decoder. For each way: the largest difference of any map's value on any
validation image, and the F1 at IoU 0.9 of its labels (for ways that give maps,
decoded from these) with those of the reference, over all cells. The exported
files are made anew.
"""

import argparse
from collections.abc import Callable
import pathlib
import tempfile
from typing import NamedTuple

import imageio.v3 as iio
import jax
import numpy as np

from cellseg_jax.export import agreement, bioimage, onnx_file, onnx_runtime
from cellseg_jax.export.stablehlo import export_stablehlo
from cellseg_jax.inference import decode
from cellseg_jax.inference.large import segment_large_maps
from cellseg_jax.inference.load import load_model
from cellseg_jax.inference.on_host import segment_image
from cellseg_jax.inference.predict import Model
from cellseg_jax.inference.segment import segment

# Small enough that the validation images are of several tiles.
TILE, OVERLAP = 448, 192


class Found(NamedTuple):
  """What one way makes of an image: labels (H, W), and perhaps maps."""

  labels: np.ndarray
  maps: dict[str, np.ndarray] | None


Way = Callable[[np.ndarray], Found]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('pairs', nargs='+', metavar='MODEL=DATA')
  print('| set | way | largest difference of maps | F1 at IoU 0.9 | cells |')
  print('|---|---|---|---|---|')
  for pair in parser.parse_args().pairs:
    folder, _, data = pair.partition('=')
    model = load_model(folder)
    images = [
      iio.imread(path)
      for path in sorted(pathlib.Path(data, 'validation', 'images').iterdir())
    ]
    truth = [Found(*segment_image(model, image)[::2]) for image in images]
    cells = sum(int(found.labels.max()) for found in truth)
    with tempfile.TemporaryDirectory() as scratch:
      for name, way in ways(model, pathlib.Path(scratch)).items():
        worst, f1 = compare(truth, [way(image) for image in images])
        print(
          f'| {pathlib.Path(data).name} | {name} | {worst} | {f1:.4f} | '
          f'{cells} |',
          flush=True,
        )


def compare(truth: list[Found], found: list[Found]) -> tuple[str, float]:
  """Returns the largest difference of maps, and the F1 of labels."""
  worst = '-'
  if found[0].maps is not None:
    pairs = zip(truth, found, strict=True)
    differences = [
      agreement.worst_difference(
        {name: t.maps[name] for name in f.maps}, f.maps
      )
      for t, f in pairs
    ]
    worst = f'{max(differences):.1e}'
  # Images of a set have several sizes: laid out in a row of pixels each.
  ours, theirs = (np.concatenate(_apart(of)) for of in (truth, found))
  return worst, agreement.f1_of_labels(ours[None, None], theirs[None, None])


def _apart(found: list[Found]) -> list[np.ndarray]:
  """Returns the pixels of all images, no two of which share a label."""
  pixels, last = [], 0
  for labels, _ in found:
    flat = labels.ravel().astype(np.int64)
    pixels.append(np.where(flat, flat + last, 0))
    last += int(flat.max())
  return pixels


def ways(model: Model, scratch: pathlib.Path) -> dict[str, Way]:
  """Returns what is compared, by name; writes the exported files."""
  hlo, onnx, package = (
    scratch / name for name in ('model.stablehlo', 'model.onnx', 'model.zip')
  )
  export_stablehlo(model, hlo)
  onnx_file.export_onnx(model, onnx)
  bioimage.export_bioimageio(model, package)
  program = jax.jit(jax.export.deserialize(bytearray(hlo.read_bytes())).call)

  def decoded(maps: dict[str, np.ndarray]) -> Found:
    maps = {name: values[0] for name, values in maps.items()}
    settings = model.config.decoding, model.choices
    return Found(decode.decode(maps, *settings), maps)

  def tiled(image: np.ndarray) -> Found:
    def new_image(dtype: type) -> np.ndarray:
      return np.zeros(image.shape[:2], dtype)

    labels, _, maps = segment_large_maps(
      model,
      image,
      None,
      tile=TILE,
      overlap=OVERLAP,
      new_image=new_image,
    )
    return Found(labels, {name: np.asarray(m) for name, m in maps.items()})

  def raw(image: np.ndarray) -> np.ndarray:
    channels = image.reshape(*image.shape[:2], -1).astype(np.float32)
    return channels.transpose(2, 0, 1)[None]

  return {
    'JAX': lambda image: Found(np.asarray(segment(model, image)), None),
    'StableHLO': lambda image: Found(
      np.asarray(program(image[None].astype(np.float32))[0])[0], None
    ),
    'ONNX Runtime': lambda image: decoded(
      onnx_runtime.run(onnx, agreement.normalized_pixels(model, image))
    ),
    'bioimageio.core': lambda image: decoded(bioimage.run(package, raw(image))),
    'tiled': tiled,
  }


if __name__ == '__main__':
  main()
