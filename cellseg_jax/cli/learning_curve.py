"""`cellseg learning-curve`: scores by the number of training images."""

from collections.abc import Sequence
import pathlib

from absl import flags

from cellseg_jax.cli import study
from cellseg_jax.config import Config, ConfigError

USAGE = """--images=N,N,... --out=DIR [--seeds=N] [--config=EXPERIMENT]
    [--config.PART.FIELD=VALUE]...

Trains on growing subsets of the training images and scores each run on the
validation images; where there are none, on the training images that it left
out. Writes learning_curve.json, .csv and .png: the scores with their spread, a
fitted curve, and what one more image should bring.
"""


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  values = flags.FlagValues()
  images = flags.DEFINE_list(
    'images', None, 'Numbers of images.', flag_values=values
  )
  seeds = flags.DEFINE_integer(
    'seeds', 1, 'Runs for each number.', lower_bound=1, flag_values=values
  )

  def learn(config: Config, out: pathlib.Path) -> str:
    from cellseg_jax.studies import learning_curve

    report = learning_curve.learning_curve(
      config, out, _numbers(images.value), seeds.value
    )
    return f'{learning_curve.summary(report)}\nWritten to {out}'

  return study.main(argv, USAGE, values, learn)


def _numbers(values: Sequence[str] | None) -> list[int]:
  """Parses `--images`; returns the distinct numbers in increasing order."""
  numbers = {int(v) if v.isdecimal() else 0 for v in values or ()}
  if not numbers or 0 in numbers:
    raise ConfigError(
      '--images must list numbers of images from 1 on, such as 1,2,4,7; found '
      f'{",".join(values or ()) or "nothing"}'
    )
  return sorted(numbers)
