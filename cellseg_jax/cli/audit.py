"""`cellseg audit`: finds labels likely to be wrong, and what to label next."""

from collections.abc import Sequence
import pathlib

from absl import flags

from cellseg_jax.cli import study
from cellseg_jax.config import Config

USAGE = """--out=DIR [--unlabelled=DIR] [--config=EXPERIMENT]
    [--config.PART.FIELD=VALUE]...

Trains once for every training image, on all of the others, as cellseg
cross-validate does (runs in the same --out are shared). Ranks the labelled
cells, and the predicted cells without a label, by how much the labels there
contradict the model that did not see them: audit.json, audit.csv, and the first
of them drawn in audit.png. With --unlabelled also ranks the images of a folder
by how much the models disagree: unlabelled.json, .csv and .png.
"""


def main(argv: Sequence[str]) -> int:
  """Runs the command; returns its exit code."""
  values = flags.FlagValues()
  unlabelled = flags.DEFINE_string(
    'unlabelled', None, 'Folder of images.', flag_values=values
  )

  def look(config: Config, out: pathlib.Path) -> str:
    from cellseg_jax.studies import audit, disagreement

    files = disagreement.find(unlabelled.value) if unlabelled.value else []
    report = audit.audit(config, out, files)
    return f'{audit.summary(report)}\nWritten to {out}'

  return study.main(argv, USAGE, values, look)
