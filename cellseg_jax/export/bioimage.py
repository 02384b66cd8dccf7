"""Export as a BioImage.IO package: a zip file for the tools of bioimage.io.

The format is specified at https://bioimage-io.github.io/spec-bioimage-io.
Nothing here accesses the internet.
"""

from collections.abc import Iterator
import contextlib
import json
import pathlib
import tempfile
from typing import Any, NamedTuple
import warnings

from bioimageio import core, spec
from bioimageio.spec.model import v0_5
from loguru import logger
import numpy as np

from cellseg_jax.atomic import replacing
from cellseg_jax.config import map_names
from cellseg_jax.export import agreement, onnx_graph
from cellseg_jax.export.card import describe, MEANINGS
from cellseg_jax.export.package_text import CITATIONS, documentation
from cellseg_jax.images.formats import write_picture
from cellseg_jax.inference.predict import Model

_EPS = 1e-6  # Constant that `scale_range` adds to the range.
# Tolerance of the package's own test: our bound, and a relative one, which the
# format requires.
_TOLERANCE = {'absolute_tolerance': agreement.BOUND, 'relative_tolerance': 1e-5}


class PackageError(ValueError):
  """The BioImage.IO format does not allow a given value."""


class Found(NamedTuple):
  """Differences between package and model on a simulated raw image.

  Attributes:
    worst: Largest difference of the maps if the model gets the pixels as the
      package normalises them; at most `agreement.BOUND`.
    from_raw: Largest difference of the maps if the model gets the pixels as it
      normalises them itself; not bounded.
  """

  worst: float
  from_raw: float


def export_bioimageio(
  model: Model,
  path: pathlib.Path,
  *,
  license: str = 'Apache-2.0',
  author: str = 'unknown',
) -> Found:
  """Writes a BioImage.IO package with ONNX weights.

  Before the package takes its place, `bioimageio.core` tests it and runs it on
  a simulated raw image.

  Args:
    model: A model that `load_model` or `ensemble` returned.
    path: The zip file to write; an existing one is replaced.
    license: Licence of the weights, an identifier of spdx.org/licenses.
    author: Author named in the package.

  Returns:
    How well the package agrees with the model.

  Raises:
    AgreementError: The package does not agree with the model, or its test
      fails; nothing is written.
    PackageError: The format does not allow the licence or the author.
    OSError: The file cannot be written.
  """
  image = agreement.sample_image(model)
  raw = image.reshape(*image.shape[:2], -1).transpose(2, 0, 1)[None]
  expected = agreement.maps_of_pixels(model, scale_range(model, raw))
  with (
    replacing(path) as partial,
    tempfile.TemporaryDirectory() as folder,
    _quiet(),
  ):
    content = pathlib.Path(folder)
    _write_content(content, model, raw, expected)
    try:
      description = _description(content, model, license, author)
    except ValueError as error:
      raise PackageError(_first_line(error)) from error
    spec.save_bioimageio_package(description, output_path=partial)
    summary = core.test_model(partial, weight_format='onnx')
    if summary.status != 'passed':
      reasons = [e.msg for d in summary.details for e in d.errors]
      raise agreement.AgreementError(
        f"the package fails bioimageio.core's test: {'; '.join(reasons)}"
      )
    found = run(partial, raw)
    worst = agreement.worst_difference(expected, found)
    agreement.check(worst)
    ours = agreement.normalized_pixels(model, image)
    from_raw = agreement.worst_difference(
      agreement.maps_of_pixels(model, ours), found
    )
  return Found(worst, from_raw)


def run(path: pathlib.Path, raw: np.ndarray) -> dict[str, np.ndarray]:
  """Runs a package with `bioimageio.core`, including its preprocessing.

  Args:
    path: A zip file that `export_bioimageio` wrote.
    raw: float32 (B, C, H, W), raw intensities.

  Returns:
    The maps by name, float32 (B, H, W), 0 to 1.
  """
  with _quiet():
    description = spec.load_model_description(path)
    sample = core.predict(model=description, inputs={'image': raw})
  return {
    str(name): np.asarray(tensor.data)[:, 0]
    for name, tensor in sample.members.items()
    if str(name) != 'image'
  }


def scale_range(model: Model, raw: np.ndarray) -> np.ndarray:
  """Normalises as the preprocessing of the package does.

  Args:
    model: Determines the percentiles.
    raw: float32 (B, C, H, W), raw intensities.

  Returns:
    Normalised intensities, float32 (B, C, H, W).
  """
  intensity = model.config.intensity
  percentiles = intensity.low_percentile, intensity.high_percentile
  low, high = np.percentile(raw, percentiles, axis=(2, 3), keepdims=True)
  return ((raw - low) / (high - low + _EPS)).astype(np.float32)


def _write_content(
  content: pathlib.Path,
  model: Model,
  raw: np.ndarray,
  expected: dict[str, np.ndarray],
) -> None:
  """Writes the files that the description names."""
  (content / 'weights.onnx').write_bytes(
    onnx_graph.build(model).SerializeToString()
  )
  np.save(content / 'image.npy', raw)
  for name, values in expected.items():
    np.save(content / f'{name}.npy', values[:, None])
  write_picture(content / 'cover.png', _cover(raw, expected['foreground']))
  card = describe(
    model, ('jax2onnx', 'onnx', 'bioimageio.core', 'bioimageio.spec')
  )
  (content / 'card.json').write_text(json.dumps(card, indent=2) + '\n')
  (content / 'README.md').write_text(documentation(card))


def _cover(raw: np.ndarray, foreground: np.ndarray) -> np.ndarray:
  """Draws image and foreground map side by side, uint8 (S, 2 S)."""
  side = min(raw.shape[2:])
  image = raw[0, 0, :side, :side]
  low, high = np.percentile(image, (1, 99.8))
  shown = np.clip((image - low) / max(high - low, _EPS), 0, 1)
  both = np.concatenate([shown, foreground[0, :side, :side]], 1)
  return np.round(255 * both).astype(np.uint8)


def _description(
  content: pathlib.Path, model: Model, license: str, author: str
) -> v0_5.ModelDescr:
  """Returns the package's description in the BioImage.IO format."""
  intensity = model.config.intensity
  file = v0_5.FileDescr
  image = v0_5.InputTensorDescr(
    id='image',
    description='raw intensities',
    axes=[
      v0_5.BatchAxis(),
      _channels([f'channel{i}' for i in range(model.config.data.channels)]),
      *(
        v0_5.SpaceInputAxis(id=a, size=v0_5.ParameterizedSize(min=32, step=1))
        for a in 'yx'
      ),
    ],
    test_tensor=file(source=content / 'image.npy'),
    data=v0_5.IntervalOrRatioDataDescr(type='float32'),
    preprocessing=[
      v0_5.ScaleRangeDescr(
        kwargs=v0_5.ScaleRangeKwargs(
          axes=['y', 'x'],
          min_percentile=intensity.low_percentile,
          max_percentile=intensity.high_percentile,
          eps=_EPS,
        )
      ),
      v0_5.EnsureDtypeDescr(kwargs=v0_5.EnsureDtypeKwargs(dtype='float32')),
    ],
  )
  return v0_5.ModelDescr(
    name='cellseg_jax model',
    description='Maps from which cells are told apart: '
    f'{", ".join(map_names(model.config.model))}.',
    authors=[v0_5.Author(name=author)],
    cite=[v0_5.CiteEntry(**entry) for entry in CITATIONS],
    license=license,
    documentation=file(source=content / 'README.md'),
    covers=[file(source=content / 'cover.png')],
    attachments=[file(source=content / 'card.json')],
    tags=['cells', 'segmentation', 'fully-convolutional', 'jax'],
    inputs=[image],
    outputs=[_output(n, content) for n in map_names(model.config.model)],
    weights=v0_5.WeightsDescr(
      onnx=v0_5.OnnxWeightsDescr(
        source=content / 'weights.onnx', opset_version=onnx_graph.OPSET
      )
    ),
    config=v0_5.Config(
      bioimageio=v0_5.BioimageioConfig(
        reproducibility_tolerance=[v0_5.ReproducibilityTolerance(**_TOLERANCE)]
      )
    ),
  )


def _output(name: str, content: pathlib.Path) -> v0_5.OutputTensorDescr:
  sizes = (v0_5.SizeReference(tensor_id='image', axis_id=a) for a in 'yx')
  return v0_5.OutputTensorDescr(
    id=name,
    description=MEANINGS[name],
    axes=[
      v0_5.BatchAxis(),
      _channels([name]),
      *(
        v0_5.SpaceOutputAxis(id=a, size=size)
        for a, size in zip('yx', sizes, strict=True)
      ),
    ],
    test_tensor=v0_5.FileDescr(source=content / f'{name}.npy'),
    data=v0_5.IntervalOrRatioDataDescr(type='float32', range=(0.0, 1.0)),
  )


def _channels(names: list[str]) -> v0_5.ChannelAxis:
  return v0_5.ChannelAxis(channel_names=[v0_5.Identifier(n) for n in names])


def _first_line(error: ValueError) -> str:
  """Returns an error of pydantic, which has many lines, in one line."""
  found: list[dict[str, Any]] = getattr(error, 'errors', list)()
  if not found or not found[0]['loc']:
    return str(error).partition('\n')[0]
  place, value = found[0]['loc'][0], found[0]['input']
  return f'{place}: found {value!r}, which BioImage.IO does not allow'


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
  """Suppresses log messages, warnings and progress bars of bioimageio."""
  logger.disable('bioimageio')
  try:
    with (
      warnings.catch_warnings(),
      spec.ValidationContext(log_warnings=False, progressbar=False),
    ):
      warnings.filterwarnings('ignore', module=r'bioimageio\.')
      yield
  finally:
    logger.enable('bioimageio')
