"""`cellseg cross-validate`: scores images by models trained on the others."""

from collections.abc import Sequence
import pathlib

from absl import flags

from cellseg_jax.cli import study
from cellseg_jax.config import Config

USAGE = """--out=DIR [--config=EXPERIMENT] [--config.PART.FIELD=VALUE]...

Trains once for every training image, on all of the others, and scores that
image. Writes cross_validation.json, .csv and .png, and held_out/.
"""


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  return study.main(argv, USAGE, flags.FlagValues(), _study)


def _study(config: Config, out: pathlib.Path) -> str:
  from cellseg_jax.studies import cross_validation

  report = cross_validation.cross_validate(config, out)
  return f'{cross_validation.summary(report)}\nWritten to {out}'
