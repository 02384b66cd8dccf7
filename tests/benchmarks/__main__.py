"""How long our program and its alternatives take for the same work.

  cd tests && python -m benchmarks --data DIR --model DIR

Prints tables, side by side in one run on this machine, and appends the figures
with device and versions to `benchmarks/records/`. Alternatives that are not
installed (the extra `[peers]`) are named and left out.
"""

import argparse
from collections.abc import Callable
import dataclasses
import functools
import pathlib
import tempfile
from typing import Any

import imageio.v3 as iio
import numpy as np

from benchmarks import (
  gpu,
  growth,
  methods,
  networks,
  processes,
  profile,
  records,
)
from benchmarks.side_by_side import compare, Make, table, Timing
from cellseg_jax.datasets.simulated import simulate_colony

# Rows, inner and columns of products like those in the network.
PRODUCTS = ((65536, 576, 192), (16384, 864, 256), (4096, 4096, 1024))
SIDE = 1024


def forward(arguments: argparse.Namespace) -> Any:
  """One 1024x1024 image through the full-width network."""
  found = {}
  for head in ('transposed', 'skips'):
    print(f'\nForward, 1024x1024, {head} head', flush=True)
    found[head] = _compare(
      {
        **_network('forward', (head, 1, SIDE)),
        'ONNX Runtime': functools.partial(networks.onnx_forward, head, 1, SIDE),
      },
      arguments,
    )
  print('\nBatches of 512x512, case study; seconds are of a batch', flush=True)
  ours = networks.ours_forward
  found['batch'] = _compare(
    {
      f'ours, {n}': functools.partial(ours, 'transposed', n, 512)
      for n in (1, 2, 4, 8)
    },
    arguments,
  )
  found['limit'] = _limit(found['transposed']['ours'], arguments)
  return found


def _network(kind: str, at: tuple[str, int, int]) -> dict[str, Make]:
  """Ours and others for `forward` or `step`."""
  ours, flax, torch = (
    getattr(networks, f'{name}_{kind}') for name in ('ours', 'flax', 'torch')
  )
  return {
    'ours': functools.partial(ours, *at),
    'Flax as usually written': functools.partial(flax, *at),
    'PyTorch channels-last': functools.partial(torch, *at, False),
    'PyTorch compiled': functools.partial(torch, *at, True),
  }


def _limit(ours: dict[str, Any], arguments: argparse.Namespace) -> Any:
  """How near the forward pass comes to the rate of plain matrix products."""
  print('\nMatrix products', flush=True)
  rates = {}
  for shape in PRODUCTS:
    make = functools.partial(networks.matrix_product, *shape)
    timing = compare({'product': make}, arguments.rounds)['product']
    rates[' x '.join(map(str, shape))] = 2e-9 * np.prod(shape) / timing.median
  work = 1e-9 * networks.operations('transposed', 1, SIDE)
  rate = work / float(np.median(ours['seconds']))
  for name, value in rates.items():
    print(f'{name}: {value:.0f} GFLOP/s')
  share = rate / max(rates.values())
  print(
    f'ours: {work:.0f} GFLOP at {rate:.0f} GFLOP/s, {share:.2f} of the best'
  )
  return {'products': rates, 'ours': rate, 'share': share}


def step(arguments: argparse.Namespace) -> Any:
  """One training step; ours with augmentation, the others without."""
  found = {}
  for head, side in (('transposed', 128), ('skips', 128), ('transposed', 256)):
    print(f'\nTraining step, 8 x {side}x{side}, {head} head', flush=True)
    found[f'{head} {side}'] = _compare(
      _network('step', (head, 8, side)), arguments
    )
  return found


def profiles(arguments: argparse.Namespace) -> Any:
  """Where the time of a forward pass and of a training step goes."""
  del arguments
  return profile.network(1024, 128)


def labels(arguments: argparse.Namespace) -> Any:
  """Pixels to labels of a 1024x1024 frame; networks apart."""
  image, model, peers = arguments.image, arguments.model, arguments.peers or ''
  print(f'\nPixels to labels, {image.shape}', flush=True)
  cellpose = functools.partial(methods.cellpose, peers, image)
  stardist = functools.partial(methods.stardist, peers, image)
  return _compare(
    {
      'ours': functools.partial(methods.ours_labels, model, image),
      'ours, network': functools.partial(methods.ours_maps, model, image),
      'StarDist': functools.partial(stardist, True),
      'StarDist, network': functools.partial(stardist, False),
      'InstanSeg, network': functools.partial(methods.instanseg_network, image),
      'Cellpose 3': functools.partial(cellpose, True),
      'Cellpose 3, network': functools.partial(cellpose, False),
    },
    arguments,
  )


def movie(arguments: argparse.Namespace) -> Any:
  """100 frames, files to files, by `cellseg segment`."""
  print('\nA movie of 100 frames, files to files', flush=True)
  ended = processes.movie(arguments.model, arguments.image)
  rate = 100 * arguments.image.size / 1e6 / ended.wall
  print(f'{ended.wall:.1f} s, {rate:.1f} megapixels/s, {_memory(ended)}')
  return {**ended._asdict(), 'megapixels_per_second': rate}


def start(arguments: argparse.Namespace) -> Any:
  """`cellseg segment` on one small image, from command to file."""
  print('\n`cellseg segment` on one image of 256x256', flush=True)
  found = processes.start_up(arguments.model, arguments.image)
  for name, ended in found.items():
    print(f'{name}: {ended.wall:.2f} s, {_memory(ended)}')
  return {name: ended._asdict() for name, ended in found.items()}


def quality(arguments: argparse.Namespace) -> Any:
  """From a cold start to a validation AUC of 0.989, and to the best F1."""
  print(f'\nTime to quality on {arguments.data.name}', flush=True)
  found = processes.time_to_quality(arguments.data, arguments.steps, 50)
  print(
    f'AUC 0.989 after {found.aim:.0f} s; best mean F1 {found.mean_f1:.3f} (F1 '
    f'at IoU 0.5 {found.f1:.3f}) after {found.best:.0f} s; best AUC '
    f'{found.auc:.4f}; {arguments.steps} steps and pictures {found.whole:.0f} s'
  )
  return found._asdict()


def grow(arguments: argparse.Namespace) -> Any:
  """How time and memory grow with what is given."""
  model, image = arguments.model, arguments.image
  kinds: dict[str, tuple[Callable[..., object], tuple[int, ...]]] = {
    'pixels to labels, side': (
      functools.partial(growth.whole_image, model, image),
      (256, 512, 1024, 2048, 4096, 8192),
    ),
    'maps of 256x256, batch': (
      functools.partial(growth.batch, model, image),
      (1, 4, 16, 64),
    ),
    'decoding 2048x2048, cells': (
      growth.decoding,
      (10, 100, 1000, 10_000),
    ),
    'training step, images of 512x512': (
      growth.training_images,
      (7, 70, 700),
    ),
  }
  found = {}
  for name, (make, sizes) in kinds.items():
    print(f'\n{name}', flush=True)
    found[name] = {}
    for size in sizes:
      at_size = functools.partial(make, size)
      timing = compare({'ours': at_size}, rounds=3)['ours']
      print(
        f'{size}: {timing.failed or f"{timing.median:.3f} s"}, first call '
        f'{timing.first:.1f} s, peak {timing.peak / 1e6:.0f} MB',
        flush=True,
      )
      found[name][size] = dataclasses.asdict(timing)
  return found


PARTS = {
  'forward': forward,
  'step': step,
  'profile': profiles,
  'labels': labels,
  'movie': movie,
  'start': start,
  'quality': quality,
  'growth': grow,
}
NEED_A_MODEL = ('labels', 'movie', 'start', 'growth')


def main() -> None:
  parser = argparse.ArgumentParser(
    'python -m benchmarks', description=__doc__.split('\n')[0]
  )
  parser.add_argument(
    '--suite',
    choices=('cpu', 'gpu'),
    default='cpu',
    help='gpu: all that needs one, in parts that go on where they were stopped',
  )
  parser.add_argument(
    '--part',
    help=f'some of {", ".join(PARTS)}; of the suite gpu {", ".join(gpu.PARTS)}',
  )
  parser.add_argument(
    '--data',
    type=pathlib.Path,
    metavar='DIR',
    help='train/ and validation/, each with images/ and labels/; without it '
    'simulated images are used, and there is no part quality',
  )
  parser.add_argument(
    '--model',
    metavar='DIR',
    help='a run of experiments/cells.py; without it, one of 200 steps on '
    'simulated images is trained',
  )
  parser.add_argument(
    '--peers', metavar='DIR', help='output of peers.py: trained weights'
  )
  parser.add_argument('--rounds', type=int, default=9, help='(default: 9)')
  parser.add_argument(
    '--steps', type=int, default=250, help='of the part quality (default: 250)'
  )
  parser.add_argument(
    '--record',
    type=pathlib.Path,
    help='file of the figures (default: benchmarks/records/cpu.jsonl, which is '
    'appended to, and gpu.json)',
  )
  arguments = parser.parse_args()
  known = tuple(PARTS if arguments.suite == 'cpu' else gpu.PARTS)
  parts = arguments.part.split(',') if arguments.part else known
  if unknown := set(parts) - set(known):
    parser.error(f'no part {", ".join(sorted(unknown))}')
  if arguments.data is None and (
    arguments.suite == 'gpu' or 'quality' in (arguments.part or '')
  ):
    parser.error('--data names the images for this')
  if arguments.suite == 'gpu':
    record = arguments.record or records.FOLDER / 'gpu.json'
    gpu.run(parts, arguments.data, record)
    return
  _run_parts(
    [name for name in parts if name != 'quality' or arguments.data], arguments
  )


def _run_parts(parts: list[str], arguments: argparse.Namespace) -> None:
  arguments.image = _frame(arguments.data)
  with tempfile.TemporaryDirectory() as folder:
    if arguments.model is None and set(parts) & set(NEED_A_MODEL):
      arguments.model = _train(pathlib.Path(folder, 'run'))
    for name in parts:
      record = arguments.record or records.FOLDER / 'cpu.jsonl'
      records.append(record, name, PARTS[name](arguments))


def _frame(data: pathlib.Path | None) -> np.ndarray:
  """An image of at most 1024x1024: the first to validate on, or a simulated."""
  if data is None:
    image, _ = simulate_colony(0)
    times = [-(-SIDE // side) for side in image.shape]
    return np.tile(image, times)[:SIDE, :SIDE]
  path = min((data / 'validation' / 'images').iterdir())
  return iio.imread(path)[:SIDE, :SIDE]


def _train(workdir: pathlib.Path) -> str:
  print('Training a model on simulated images', flush=True)
  dataset = 'data.dataset=simulated_colonies'
  processes.run(processes.train_command(workdir, dataset, steps=200))
  return str(workdir)


def _compare(
  alternatives: dict[str, Make], arguments: argparse.Namespace
) -> dict[str, dict[str, Any]]:
  """Times, prints, and returns what is recorded."""
  timings: dict[str, Timing] = compare(alternatives, arguments.rounds)
  print(
    table(timings, [name for name in timings if name == 'ours']), flush=True
  )
  return {name: dataclasses.asdict(t) for name, t in timings.items()}


def _memory(ended: processes.Ended) -> str:
  return f'processor {ended.processor:.1f} s, peak {ended.peak / 1e6:.0f} MB'


if __name__ == '__main__':
  main()
