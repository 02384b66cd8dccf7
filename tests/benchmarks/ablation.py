"""Trains `experiments/ablation.py` part by part and prints the table.

  python tests/benchmarks/ablation.py --out=OUT --data DIR [DIR...]

Every part is run with every seed on every set; parts of the decoder alone use
the weights of the whole. OUT/ablation.json keeps what is done, so that a
stopped call goes on. The figures are those of the validation
images, F1 averaged over IoU 0.5 to 0.9 and the pixel AUC; the spread is half
the range over seeds and sets of the difference to the whole.
"""

import argparse
import json
import pathlib
import runpy
import subprocess
import sys
from typing import Any

import numpy as np

from cellseg_jax.datasets.load import load
from cellseg_jax.evaluation.assess import assess
from cellseg_jax.inference.load import load_model
from cellseg_jax.serialization import replace

ROOT = pathlib.Path(__file__).parents[2]
FILE = ROOT / 'experiments' / 'ablation.py'
PARTS = runpy.run_path(str(FILE))['PARTS']
IOUS = ('0.5', '0.6', '0.7', '0.8', '0.9')


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', type=pathlib.Path, nargs='+', required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--parts', default=','.join(PARTS))
  parser.add_argument('--seeds', default='0,1')
  parser.add_argument('--steps', type=int, default=250)
  arguments = parser.parse_args()
  arguments.out.mkdir(parents=True, exist_ok=True)
  path = arguments.out / 'ablation.json'
  done = json.loads(path.read_text()) if path.exists() else {}
  parts = arguments.parts.split(',')
  for seed in arguments.seeds.split(','):
    for part in parts:
      for data in arguments.data:
        name = f'{part}/{data.name}/{seed}'
        if name not in done:
          run = _decode if set(PARTS[part]) == {'decoding'} else _train
          done[name] = run(part, data, int(seed), arguments)
          path.write_text(json.dumps(done, indent=1) + '\n')
        print(name, done[name], flush=True)
  print(table(parts, done))


def _train(
  part: str, data: pathlib.Path, seed: int, arguments: argparse.Namespace
) -> dict[str, float]:
  """Trains once; returns the figures of the validation images."""
  workdir = _workdir(part, data, seed, arguments)
  command = [
    sys.executable,
    str(ROOT / 'run_train.py'),
    f'--config={FILE}:{part}',
    f'--workdir={workdir}',
    f'--config.data.path={data}',
    f'--config.training.seed={seed}',
    f'--config.training.steps={arguments.steps}',
    f'--config.training.evaluate_every={arguments.steps}',
    f'--config.training.checkpoint_every={arguments.steps}',
  ]
  with open(f'{workdir}.log', 'w') as log:
    subprocess.run(command, check=True, stdout=log, stderr=log)
  evaluation = json.loads((workdir / 'evaluation.json').read_text())
  return _figures(evaluation['validation'])


def _decode(
  part: str, data: pathlib.Path, seed: int, arguments: argparse.Namespace
) -> dict[str, float]:
  """Chooses the changed decoder's settings for the weights of the whole."""
  whole = _workdir('all', data, seed, arguments)
  model = load_model(whole)
  model = model.replace(config=replace(model.config, **PARTS[part]))
  images = load(model.config.data).validation
  # Both splits are validation images: the figures of training are not used.
  return _figures(assess(model, images, images)['validation'])


def _workdir(
  part: str, data: pathlib.Path, seed: int, arguments: argparse.Namespace
) -> pathlib.Path:
  return arguments.out / f'{part}-{data.name}-{seed}'


def _figures(validation: dict[str, Any]) -> dict[str, float]:
  return {
    'mean_f1': round(float(np.mean([validation['f1'][i] for i in IOUS])), 4),
    'auc': round(validation['roc_auc'], 4),
  }


def table(parts: list[str], done: dict[str, dict[str, float]]) -> str:
  """Returns the table in Markdown.

  Args:
    parts: Rows; 'all' is what the others are compared with.
    done: Figures by 'part/set/seed'.
  """
  lines = [
    '| part | mean F1 | difference | AUC | difference | runs |',
    '|---|---|---|---|---|---|',
  ]
  for part in parts:
    runs = [name for name in done if name.split('/')[0] == part]
    cells = [part]
    for figure in ('mean_f1', 'auc'):
      values = [done[name][figure] for name in runs]
      whole = [
        done.get(name.replace(part, 'all', 1), {}).get(figure, np.nan)
        for name in runs
      ]
      gain = np.subtract(values, whole)
      spread = np.ptp(gain) / 2
      cells += [f'{np.mean(values):.4f}', f'{gain.mean():+.4f} ± {spread:.4f}']
    lines.append(f'| {" | ".join(cells)} | {len(runs)} |')
  return '\n'.join(lines)


if __name__ == '__main__':
  main()
