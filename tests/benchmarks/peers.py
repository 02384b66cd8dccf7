"""Trains this project, StarDist and Cellpose 3 on the same images; scores all.

  pip install -e '.[peers]'
  python tests/benchmarks/peers.py --data=DIR --out=OUT

DIR holds `train/` and `validation/`, each with `images/` and `labels/`. Ours is
trained first; each peer then gets the same wall time on this machine, from
scratch, with the augmentation that it ships with. Every program is its own
process. Label images go to OUT/METHOD/labels/, the table to OUT/peers.json; a
method whose table entry is there is not run again. With --cpu_time, minutes are
those of processor time (of all cores together): on a machine with other work,
wall time would not be the same for all.
"""

import argparse
from collections.abc import Callable
import json
import pathlib
import resource
import subprocess
import sys
import time

import numpy as np

from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import load, Splits
from cellseg_jax.datasets.survey import survey
from cellseg_jax.evaluation import scores
from cellseg_jax.experiments import cells
from cellseg_jax.images import formats, normalize, targets
from cellseg_jax.serialization import replace
from cellseg_jax.training.resolve import resolve

ROOT = pathlib.Path(__file__).parents[2]


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument(
    '--methods', default='cellseg_jax,stardist,cellpose', help='to compare'
  )
  parser.add_argument('--seed', type=int, default=0)
  parser.add_argument(
    '--minutes', type=float, help="training time of the peers, if not ours'"
  )
  parser.add_argument(
    '--cpu_time', action='store_true', help='measure processor time, not wall'
  )
  parser.add_argument('--only', help=argparse.SUPPRESS)
  arguments = parser.parse_args()
  if arguments.only:
    METHODS[arguments.only](arguments)
    return
  arguments.out.mkdir(parents=True, exist_ok=True)
  table_path = arguments.out / 'peers.json'
  table = json.loads(table_path.read_text()) if table_path.exists() else {}
  for method in arguments.methods.split(','):
    if method not in table:
      minutes = arguments.minutes
      if method != 'cellseg_jax' and minutes is None:
        minutes = table['cellseg_jax']['minutes']
      subprocess.run(
        [sys.executable, __file__, *sys.argv[1:], f'--only={method}']
        + ([f'--minutes={minutes}'] if minutes else []),
        check=True,
      )
      table[method] = _score(arguments, method)
      table_path.write_text(json.dumps(table, indent=1) + '\n')
    print(f'{method}: {_line(table[method])}', flush=True)


def _clock(arguments: argparse.Namespace) -> Callable[[], float]:
  """Returns what tells the seconds of this process and those it started."""

  def processor() -> float:
    ended = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + ended.ru_utime + ended.ru_stime

  return processor if arguments.cpu_time else time.monotonic


def _line(row: dict[str, float]) -> str:
  return ', '.join(f'{name} {value:.4g}' for name, value in row.items())


def _score(arguments: argparse.Namespace, method: str) -> dict[str, float]:
  """Compares a method's label images with the true ones."""
  folder = arguments.out / method
  counts = [
    scores.count(
      formats.read_labels(path),
      formats.read_labels(folder / 'labels' / f'{path.stem}.tif'),
    )
    for path in formats.list_images(arguments.data / 'validation' / 'labels')
  ]
  metrics = scores.metrics(scores.pool(counts))
  row = json.loads((folder / 'time.json').read_text())
  row |= {f'f1@{iou}': metrics['f1'][iou] for iou in ('0.5', '0.7', '0.8')}
  errors = ('merged', 'split', 'missed', 'extra', 'true')
  return row | {name: metrics[name] for name in errors}


def _write_time(arguments: argparse.Namespace, method: str, **row) -> None:
  path = arguments.out / method / 'time.json'
  path.write_text(json.dumps(row))


def _load(arguments: argparse.Namespace) -> tuple[Splits, float]:
  """Returns the images, and the scale at which ours sees them."""
  config = replace(cells(), data={'path': str(arguments.data)})
  splits = load(config.data)
  return splits, resolve(config, survey(splits.train).areas).data.resample


def _write(arguments: argparse.Namespace, method: str) -> Callable:
  folder = arguments.out / method / 'labels'
  folder.mkdir(parents=True, exist_ok=True)

  def write(image: LabelledImage, labels: np.ndarray) -> None:
    labels = targets.resample_labels(labels, image.labels.shape)
    formats.write_labels(folder / f'{image.name}.tif', labels.astype(np.int32))

  return write


def run_ours(arguments: argparse.Namespace) -> None:
  folder = arguments.out / 'cellseg_jax'
  clock = _clock(arguments)
  start = clock()
  command = [
    sys.executable,
    str(ROOT / 'run_train.py'),
    f'--config={ROOT / "experiments" / "cells.py"}',
    f'--config.data.path={arguments.data}',
    f'--config.training.seed={arguments.seed}',
    f'--workdir={folder / "run"}',
  ]
  subprocess.run(command, check=True)
  minutes = (clock() - start) / 60
  command = [str(pathlib.Path(sys.executable).with_name('cellseg')), 'segment']
  command += ['--model', str(folder / 'run'), '--out', str(folder / 'labels')]
  images = arguments.data / 'validation' / 'images'
  subprocess.run([*command, str(images)], check=True)
  _write_time(arguments, 'cellseg_jax', minutes=minutes)


def run_stardist(arguments: argparse.Namespace) -> None:
  """StarDist's default network at the scale of ours; patches of 256."""
  from csbdeep.utils import normalize as csb_normalize
  from stardist import fill_label_holes
  from stardist.models import Config2D, StarDist2D
  import tensorflow as tf

  tf.keras.utils.set_random_seed(arguments.seed)
  splits, factor = _load(arguments)

  def prepare(image: LabelledImage) -> tuple[np.ndarray, np.ndarray]:
    shape = normalize.resampled_shape(image.labels.shape, factor)
    pixels = np.float32(image.image).reshape(*image.labels.shape, -1)
    small = np.asarray(normalize.resample(pixels, shape))[..., 0]
    labels = targets.resample_labels(image.labels, shape)
    return csb_normalize(small, 1, 99.8), fill_label_holes(labels)

  def patch(side: int) -> int:
    return max(16, min(256, side // 16 * 16))

  pairs = [prepare(image) for image in splits.train]
  sides = np.min([labels.shape for _, labels in pairs], axis=0)
  model = StarDist2D(
    Config2D(
      n_rays=32,
      grid=(2, 2),
      train_batch_size=4,
      train_tensorboard=False,
      train_patch_size=tuple(patch(int(side)) for side in sides),
    ),
    name='model',
    basedir=str(arguments.out / 'stardist'),
  )
  clock = _clock(arguments)
  start = clock()
  end = start + 60 * arguments.minutes

  class StopInTime(tf.keras.callbacks.Callback):
    def on_train_batch_end(self, batch, logs=None):
      if clock() > end:
        self.model.stop_training = True

  model.prepare_for_training()
  model.callbacks.append(StopInTime())
  held = [prepare(image) for image in splits.validation]
  model.train(
    *map(list, zip(*pairs, strict=True)),
    validation_data=tuple(map(list, zip(*held, strict=True))),
    augmenter=_stardist_augmenter(np.random.default_rng(arguments.seed)),
    epochs=10_000,
    steps_per_epoch=20,
  )
  model.optimize_thresholds(*map(list, zip(*held, strict=True)))
  write = _write(arguments, 'stardist')
  _write_time(arguments, 'stardist', minutes=(clock() - start) / 60)
  for image, (pixels, _) in zip(splits.validation, held, strict=True):
    write(image, model.predict_instances(pixels)[0])


def _stardist_augmenter(rng: np.random.Generator) -> Callable:
  """What StarDist's own training example does: turns, intensity, noise."""

  def augment(image: np.ndarray, labels: np.ndarray):
    turns, flip = rng.integers(4), rng.random() < 0.5
    image, labels = (np.rot90(array, turns) for array in (image, labels))
    if flip:
      image, labels = image[::-1], labels[::-1]
    image = image * rng.uniform(0.6, 2) + rng.uniform(-0.2, 0.2)
    noise = 0.02 * rng.uniform() * rng.standard_normal(image.shape)
    return (image + noise).astype(np.float32), labels

  return augment


def run_cellpose(arguments: argparse.Namespace) -> None:
  """Cellpose 3 from random weights, with the settings it trains by."""
  from cellpose import models
  from cellpose import train as cellpose_train
  import torch

  torch.manual_seed(arguments.seed)
  np.random.seed(arguments.seed)
  splits, _ = _load(arguments)
  folder = arguments.out / 'cellpose'
  folder.mkdir(exist_ok=True)
  model = models.CellposeModel(gpu=torch.cuda.is_available())
  clock = _clock(arguments)
  start = clock()

  def fit(epochs: int, crops: int = 28) -> pathlib.Path:
    path, *_ = cellpose_train.train_seg(
      model.net,
      train_data=[np.float32(image.image) for image in splits.train],
      train_labels=[image.labels.astype(np.int32) for image in splits.train],
      channels=[0, 0],
      n_epochs=epochs,
      nimg_per_epoch=crops,
      save_path=str(folder),
    )
    return path

  # Its schedule wants the number of epochs: time one, after a short first one.
  fit(1, crops=8)
  once = clock()
  fit(1)
  epoch = clock() - once
  left = start + 60 * arguments.minutes - clock()
  path = fit(max(1, int(left / epoch)))
  minutes = (clock() - start) / 60
  write = _write(arguments, 'cellpose')
  _write_time(arguments, 'cellpose', minutes=minutes)
  trained = models.CellposeModel(
    gpu=torch.cuda.is_available(), pretrained_model=str(path)
  )
  for image in splits.validation:
    masks, *_ = trained.eval(
      np.float32(image.image), channels=[0, 0], diameter=None
    )
    write(image, masks)


METHODS = {
  'cellseg_jax': run_ours,
  'stardist': run_stardist,
  'cellpose': run_cellpose,
}

if __name__ == '__main__':
  main()
