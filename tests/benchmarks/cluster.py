"""How fast a cluster is beside one process, and what its client holds.

  cd tests && python -m benchmarks.cluster speed --model DIR --data IMAGES
  cd tests && python -m benchmarks.cluster memory --model DIR

`speed` times `cellseg segment` of copies of the images, and of one large image
put together from them, by one process and by two workers of one core each, in
turn. `memory` writes how much memory this process, in which client and
scheduler are, takes over ten thousand tasks; DIR may be of a tiny network.
"""

import argparse
from collections.abc import Iterable, Iterator
import csv
import os
import pathlib
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from typing import Any

import imageio.v3 as iio
import numpy as np
import psutil
import tifffile

from benchmarks import records

WORKERS = 2
EVERY = 250  # Tasks between two looks at the memory.
MB = 2**20


def speed(model: str, data: str, copies: int, side: int, rounds: int) -> dict:
  """Times files, and the blocks of a large one.

  Returns:
    By what was segmented, the seconds of one process and of the cluster in
    every round (see `_timed`), and how their medians compare.
  """
  images = [iio.imread(path) for path in sorted(pathlib.Path(data).iterdir())]
  found = {}
  with tempfile.TemporaryDirectory() as folder:
    small, large = (pathlib.Path(folder, name) for name in ('small', 'large'))
    small.mkdir()
    large.mkdir()
    for number in range(copies):
      tifffile.imwrite(small / f'{number:04}.tif', images[number % len(images)])
    tifffile.imwrite(large / 'wide.tif', _wide(images, side), tile=(512, 512))
    for path in (small, large):
      pixels = sum(
        tifffile.TiffFile(file).series[0].size for file in path.iterdir()
      )
      found[path.name] = _compare(model, path, pixels / 1e6, rounds)
  return found


def _wide(images: list[np.ndarray], side: int) -> np.ndarray:
  height, width = np.min([image.shape for image in images], 0)
  rows, columns = -(-side // height), -(-side // width)
  tiles = iter(np.arange(rows * columns) % len(images))
  return np.vstack(
    [
      np.hstack([images[next(tiles)][:height, :width] for _ in range(columns)])
      for _ in range(rows)
    ]
  )[:side, :side]


def _compare(
  model: str, images: pathlib.Path, pixels: float, rounds: int
) -> dict:
  ways: dict[str, list[str]] = {
    'process': [],
    'cluster': ['--dask', f'local:{WORKERS}'],
  }
  found: dict[str, dict] = {
    name: {'whole': [], 'steady': [], 'cpu': []} for name in ways
  }
  for number in range(rounds + 1):
    for name, options in ways.items():
      times = _timed(model, images, options)
      print(images.name, name, times, flush=True)
      if number:  # The first round compiles.
        for kind, seconds in times.items():
          found[name][kind].append(seconds)
  ratio = {
    kind: round(
      statistics.median(found['process'][kind])
      / statistics.median(found['cluster'][kind]),
      3,
    )
    for kind in found['process']
  }
  return found | {'megapixels': pixels, 'ratio': ratio}


def _timed(
  model: str, images: pathlib.Path, options: list[str]
) -> dict[str, float]:
  """Returns seconds of a command, of its steady part, and of processors.

  The steady part is from the end of a quarter of the files to that of all; of a
  single file, what the command says that it took.
  """
  code = 'import sys; from cellseg_jax.cli.main import run; sys.exit(run())'
  with tempfile.TemporaryDirectory() as out:
    arguments = ['--model', model, '--out', out, *options, str(images)]
    start, before = time.monotonic(), _cpu()
    process = subprocess.Popen(
      [sys.executable, '-c', code, 'segment', *arguments],
      stdout=subprocess.PIPE,
      text=True,
    )
    lines = [line for line in _stamped(process.stdout) if ' cells, ' in line[1]]
    if process.wait():
      raise RuntimeError(f'exit code {process.returncode}')
    whole = time.monotonic() - start
  steady = lines[-1][0] - lines[len(lines) // 4][0]
  if len(lines) == 1:
    steady = float(lines[0][1].split()[-2])
  times = {'whole': whole, 'steady': steady, 'cpu': _cpu() - before}
  return {kind: round(seconds, 2) for kind, seconds in times.items()}


def _stamped(lines: Iterable[str]) -> Iterator[tuple[float, str]]:
  for line in lines:
    yield time.monotonic(), line


def _cpu() -> float:
  """Returns the seconds that processes which this one waited for computed."""
  used = resource.getrusage(resource.RUSAGE_CHILDREN)
  return used.ru_utime + used.ru_stime


def memory(model: str, kind: str, count: int) -> list[tuple[int, float]]:
  """Runs tiny tasks on two workers.

  Args:
    model: Folder of a run; of its network tiles of 64 x 64 pixels are asked.
    kind: 'files', of 32 x 32 pixels, or 'tiles' of one image, and its blocks.
    count: How many files or tiles.

  Returns:
    Tasks done and the memory of this process in MB, again and again.
  """
  from cellseg_jax.cli import process
  from cellseg_jax.cluster import connect, large, segment, tasks
  from cellseg_jax.cluster.work import Work
  from cellseg_jax.inference import batch, files
  from cellseg_jax.inference.load import load_model

  this, curve, done = psutil.Process(), [], 0

  def look(*event: object) -> None:
    nonlocal done
    done += 1
    if done % EVERY == 0:
      curve.append((done, round(this.memory_info().rss / MB, 1)))

  with (
    tempfile.TemporaryDirectory() as folder,
    connect.connected(f'local:{WORKERS}', process.prepare) as client,
  ):
    out = pathlib.Path(folder, 'out')
    out.mkdir()
    loaded, options = load_model(model), files.Options()
    work = Work((model,), out, options, batch.digest(loaded, options))
    cluster = tasks.Cluster(client)
    if kind == 'tiles':
      job = _image(folder, 'wide', round(count**0.5) * 32 + 32)
      large.TILE, large.OVERLAP, large.BLOCK = 64, 32, 32
      cluster.watch = look
      with large.stages(cluster, work, job.name) as stages:
        outcomes = batch.outcomes(
          loaded, [job], out, options, work.common, stages
        )
        assert [one.record.status for one in outcomes] == ['ok']
    else:
      jobs = [_image(folder, f'{number}', 32) for number in range(count)]
      for outcome in segment.segment_files(cluster, loaded, jobs, work):
        assert outcome.record.status == 'ok', outcome.record.reason
        look()
  return curve


def _image(folder: str, name: str, side: int) -> Any:
  from cellseg_jax.inference.batch import Job

  random = np.random.default_rng(len(name))
  path = pathlib.Path(folder, f'{name}.tif')
  tifffile.imwrite(path, random.integers(0, 255, (side, side), np.uint8))
  return Job(path, name)


def main() -> None:
  """Measures what the command line asks for."""
  parser = argparse.ArgumentParser()
  parser.add_argument('part', choices=('speed', 'memory'))
  parser.add_argument('--model', required=True)
  parser.add_argument('--data', help='a folder of images')
  parser.add_argument('--copies', type=int, default=48)
  parser.add_argument('--side', type=int, default=6000)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--count', type=int, default=10_000)
  parser.add_argument('--kind', choices=('files', 'tiles'), default='tiles')
  a = parser.parse_args()
  if a.part == 'speed':
    found = speed(a.model, a.data, a.copies, a.side, a.rounds)
    print(found)
    records.append(records.FOLDER / 'cpu.jsonl', 'cluster', found)
    return
  path = records.FOLDER / f'cluster_memory_{a.kind}.csv'
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['tasks', 'megabytes'])
    writer.writerows(memory(os.path.abspath(a.model), a.kind, a.count))
  print(path)


if __name__ == '__main__':
  main()
