"""`cellseg export`: writes a model as a file that runs without this package."""

import argparse
from collections.abc import Callable
import pathlib
import sys
from typing import TYPE_CHECKING

from cellseg_jax.cli import process

if TYPE_CHECKING:
  from cellseg_jax.inference.predict import Model

# Import names of the packages of the extra `[export]`.
_EXTRA = ('bioimageio', 'jax2onnx', 'loguru', 'onnx', 'onnxruntime')


def add_arguments(parser: argparse.ArgumentParser) -> None:
  """Declares the command's arguments."""
  parser.add_argument(
    '--model',
    required=True,
    action='append',
    metavar='DIR',
    help='folder of a training run; given several times (runs of other seeds), '
    'the file holds all and averages their predictions',
  )
  parser.add_argument(
    '--to',
    required=True,
    choices=tuple(_EXPORTERS),
    help='stablehlo: raw pixels to labels, run by JAX alone; onnx: normalised '
    'pixels to maps; bioimageio: a zip with ONNX weights for the tools of '
    'bioimage.io',
  )
  parser.add_argument('out', metavar='OUT', help='file to write')
  group = parser.add_argument_group('what a bioimageio package says')
  group.add_argument(
    '--license',
    default='Apache-2.0',
    metavar='SPDX',
    help='licence of the weights, an identifier of spdx.org/licenses (default: '
    'Apache-2.0)',
  )
  group.add_argument(
    '--author', default='unknown', metavar='NAME', help='who trained the model'
  )


def run(arguments: argparse.Namespace) -> int:
  """Writes the file and prints how well it agrees with the model.

  Args:
    arguments: The arguments that `add_arguments` declares.

  Returns:
    The exit code, which is 0; 1 if the file does not agree with the model; 2 if
    it cannot be written.
  """
  process.prepare()
  # Imported late, so that `cellseg --help` does not wait for JAX.
  from cellseg_jax.export.agreement import AgreementError
  from cellseg_jax.inference.ensemble import ensemble
  from cellseg_jax.inference.load import load_model

  out = pathlib.Path(arguments.out)
  try:
    _check_out(out, arguments.to)
    model = ensemble([load_model(folder) for folder in arguments.model])
    said = _EXPORTERS[arguments.to](model, out, arguments)
  except AgreementError as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  except (ValueError, OSError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  except ModuleNotFoundError as error:
    missing = (error.name or '').partition('.')[0]
    if missing not in _EXTRA:
      raise
    print(
      f'error: --to {arguments.to} needs {missing}, which is not installed; '
      "install the extra: pip install 'cellseg_jax[export]'",
      file=sys.stderr,
    )
    return 2
  print(f'{out}: {said}')
  return 0


def _check_out(out: pathlib.Path, kind: str) -> None:
  """Refuses output paths that would otherwise fail only after minutes."""
  if not out.parent.is_dir():
    raise FileNotFoundError(f'{out.parent}: there is no such folder')
  if out.is_dir():
    raise IsADirectoryError(f'{out}: is a folder; name a file')
  if kind == 'bioimageio' and out.suffix != '.zip':
    raise ValueError(f'{out}: the name of a package must end in .zip')


def _to_stablehlo(
  model: 'Model', out: pathlib.Path, arguments: argparse.Namespace
) -> str:
  from cellseg_jax.export import agreement
  from cellseg_jax.export.stablehlo import export_stablehlo

  f1 = export_stablehlo(model, out)
  return (
    f'F1 of labels at IoU 0.9 with the model {f1:.4f} (at least '
    f'{agreement.LEAST_F1}), described in {out.name}.json'
  )


def _to_onnx(
  model: 'Model', out: pathlib.Path, arguments: argparse.Namespace
) -> str:
  from cellseg_jax.export import agreement
  from cellseg_jax.export.onnx_file import export_onnx

  worst = export_onnx(model, out)
  return (
    f'largest difference of maps from the model {worst:.1e} (allowed: '
    f'{agreement.BOUND:.0e}), described in {out.name}.json'
  )


def _to_bioimageio(
  model: 'Model', out: pathlib.Path, arguments: argparse.Namespace
) -> str:
  from cellseg_jax.export import agreement
  from cellseg_jax.export.bioimage import export_bioimageio

  found = export_bioimageio(
    model, out, license=arguments.license, author=arguments.author
  )
  return (
    f'largest difference of maps from the model {found.worst:.1e} (allowed: '
    f"{agreement.BOUND:.0e}), {found.from_raw:.1e} with the package's own "
    'normalisation'
  )


_EXPORTERS: dict[
  str, Callable[['Model', pathlib.Path, argparse.Namespace], str]
] = {
  'stablehlo': _to_stablehlo,
  'onnx': _to_onnx,
  'bioimageio': _to_bioimageio,
}
