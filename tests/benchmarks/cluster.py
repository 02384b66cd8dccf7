"""How fast a cluster is beside one process, and what its client holds.

  cd tests && python -m benchmarks.cluster speed --model DIR --data IMAGES
  cd tests && python -m benchmarks.cluster memory

`speed` times `cellseg segment` of copies of the images, and of one large image
put together from them, by one process and by two workers of one core each, in
turn. `memory` writes how much memory this process, in which client and
scheduler are, takes over ten thousand tiles, or files, of a tiny network.
"""

import argparse
from collections.abc import Iterable, Iterator
import csv
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


def memory(kind: str, count: int) -> list[tuple[int, float]]:
  """Runs tiny tasks on two workers.

  Args:
    kind: 'files', of 32 x 32 pixels, or 'tiles' of 64 x 64 of one image; as
      many blocks are then looked at for cells, for holes, and written.
    count: How many files or tiles.

  Returns:
    Tasks done and the memory of this process in MB, again and again.
  """
  # Imported late: workers, too, begin with this file, before JAX is prepared.
  from untrained import save_untrained_that_finds

  from cellseg_jax.cli import process
  from cellseg_jax.cluster import connect, segment, tasks
  from cellseg_jax.cluster.work import Work
  from cellseg_jax.config import Config
  from cellseg_jax.inference import batch, files
  from cellseg_jax.inference.load import load_model
  from cellseg_jax.serialization import replace

  this, curve, done = psutil.Process(), [], 0

  def look(*event: object) -> None:
    nonlocal done
    done += 1
    if done % EVERY == 1:
      curve.append((done, round(this.memory_info().rss / MB, 1)))
      print(*curve[-1], flush=True)

  with (
    tempfile.TemporaryDirectory() as folder,
    connect.connected(f'local:{WORKERS}', process.prepare) as client,
  ):
    run, out = (pathlib.Path(folder, name) for name in ('run', 'out'))
    out.mkdir()
    config = replace(Config(), model={'width': 0.05, 'head': 'skips'})
    save_untrained_that_finds(run, config, _noise(256))
    model, options = load_model(run), files.Options()
    work = Work((str(run),), out, options, batch.digest(model, options))
    cluster = tasks.Cluster(client)
    if kind == 'tiles':
      cluster.watch = look
      wide = _image(folder, 'wide', round(count**0.5) * 32 + 32)
      outcomes = _in_tiles(cluster, model, wide, work)
    else:
      jobs = [_image(folder, f'{number}', 32) for number in range(count)]
      outcomes = segment.segment_files(cluster, model, jobs, work)
    for outcome in outcomes:
      assert outcome.record.status == 'ok', outcome.record.reason
      look()
  return curve


def _in_tiles(cluster: Any, model: Any, job: Any, work: Any) -> Iterator[Any]:
  """Segments an image in small tiles and blocks, however small it is."""
  from cellseg_jax.cluster import large
  from cellseg_jax.inference import batch

  large.TILE, large.OVERLAP, large.BLOCK = 64, 32, 32
  with large.stages(cluster, work, job.name) as stages:
    yield from batch.outcomes(
      model, [job], work.out, work.options, work.common, stages
    )


def _image(folder: str, name: str, side: int) -> Any:
  from cellseg_jax.inference.batch import Job

  path = pathlib.Path(folder, f'{name}.tif')
  tifffile.imwrite(path, _noise(side))
  return Job(path, name)


def _noise(side: int) -> np.ndarray:
  random = np.random.default_rng(0)
  return random.integers(0, 255, (side, side), np.uint8)


def main() -> None:
  """Measures what the command line asks for."""
  parser = argparse.ArgumentParser()
  parser.add_argument('part', choices=('speed', 'memory'))
  parser.add_argument('--model', help='for speed: the folder of a run')
  parser.add_argument('--data', help='for speed: a folder of images')
  parser.add_argument('--copies', type=int, default=48)
  parser.add_argument('--side', type=int, default=6000)
  parser.add_argument('--rounds', type=int, default=3)
  parser.add_argument('--count', type=int, default=10_000)
  parser.add_argument('--kind', choices=('files', 'tiles'), default='tiles')
  a = parser.parse_args()
  if a.part == 'speed':
    if not (a.model and a.data):
      parser.error('speed needs --model and --data')
    found = speed(a.model, a.data, a.copies, a.side, a.rounds)
    print(found)
    records.append(records.FOLDER / 'cpu.jsonl', 'cluster', found)
    return
  curve = memory(a.kind, a.count)
  path = records.FOLDER / f'cluster_memory_{a.kind}.csv'
  with open(path, 'w', newline='') as file:
    writer = csv.writer(file)
    writer.writerow(['tasks', 'megabytes'])
    writer.writerows(curve)
  print(path)


if __name__ == '__main__':
  main()
