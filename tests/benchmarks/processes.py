"""Whole processes: how long from the command to the file, how much memory."""

from collections.abc import Iterator, Mapping, Sequence
import contextlib
import json
import os
import pathlib
import subprocess
import sys
import tempfile
import time
from typing import NamedTuple

import imageio.v3 as iio
import numpy as np

ROOT = pathlib.Path(__file__).parents[2]
PROGRAM = 'from cellseg_jax.cli.main import run; raise SystemExit(run())'
CELLSEG = [sys.executable, '-c', PROGRAM]


class Ended(NamedTuple):
  """What a process took.

  Attributes:
    wall: Seconds from its start to its end.
    processor: Seconds of processor time, of all its threads.
    peak: Largest resident memory, in bytes.
  """

  wall: float
  processor: float
  peak: int


def run(
  command: Sequence[str], environment: Mapping[str, str] | None = None
) -> Ended:
  """Runs a command to its end.

  Raises:
    RuntimeError: It did not exit with 0; what it wrote last is told.
  """
  with tempfile.TemporaryFile() as said:
    start = time.monotonic()
    process = subprocess.Popen(
      [str(part) for part in command],
      stdout=said,
      stderr=said,
      env=os.environ | dict(environment or {}),
    )
    _, status, used = os.wait4(process.pid, 0)
    wall = time.monotonic() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
      said.seek(0)
      last = said.read()[-2000:].decode(errors='replace')
      raise RuntimeError(
        f'{command[0]} exited with {process.returncode}: {last}'
      )
  return Ended(wall, used.ru_utime + used.ru_stime, 1024 * used.ru_maxrss)


def train_command(
  workdir: pathlib.Path, *fields: str, steps: int = 0, every: int = 0
) -> list[str]:
  """Returns the command that trains `experiments/cells.py`.

  Args:
    workdir: Folder of the run.
    *fields: More of its flags, such as 'data.path=DIR' for --config.data.path.
    steps: Updates; 0 leaves them as they are.
    every: Updates between evaluations and checkpoints; 0 is only at the end.
  """
  if steps:
    every = every or steps
    fields += (
      f'training.steps={steps}',
      f'training.evaluate_every={every}',
      f'training.checkpoint_every={every}',
    )
  return [
    sys.executable,
    str(ROOT / 'run_train.py'),
    f'--config={ROOT / "experiments" / "cells.py"}',
    f'--workdir={workdir}',
    *(f'--config.{field}' for field in fields),
  ]


def start_up(
  model: str, image: np.ndarray, rounds: int = 5
) -> dict[str, Ended]:
  """Times `cellseg segment` on one small image, first and later.

  Args:
    model: Folder of a run.
    image: Raw intensities (H, W); a corner of 256 x 256 is used.
    rounds: Of warm runs; the median is returned.
  """
  with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder)
    iio.imwrite(place / 'small.tif', image[:256, :256])
    environment = {'XDG_CACHE_HOME': str(place / 'cache')}

    def once() -> Ended:
      (place / 'small.tif').touch()  # So that it is done again.
      command = [*CELLSEG, 'segment', '--model', model]
      command += ['--out', place / 'out', place / 'small.tif']
      return run(command, environment)

    cold = once()
    warm = sorted(once() for _ in range(rounds))[rounds // 2]
  return {'compile cache empty': cold, 'compile cache warm': warm}


def movie(model: str, image: np.ndarray, frames: int = 100) -> Ended:
  """Times `cellseg segment` on a folder of frames, TIFF to TIFF.

  Args:
    model: Folder of a run.
    image: Raw intensities (H, W); frames are it, rolled.
    frames: How many.
  """
  with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder)
    (place / 'frames').mkdir()
    for number in range(frames):
      rolled = np.roll(image, 7 * number, (0, 1))
      iio.imwrite(place / 'frames' / f'{number:03}.tif', rolled)
    command = [*CELLSEG, 'segment', '--model', model]
    return run([*command, '--out', place / 'out', place / 'frames'])


class Quality(NamedTuple):
  """When a run reached what, in seconds from its start.

  Attributes:
    aim: Until the validation AUC was first at least the aim; NaN if never.
    best: Until the evaluation of the best mean F1.
    whole: Until it ended, pictures drawn.
    auc: The highest validation AUC.
    mean_f1: The highest mean F1 over IoU 0.5 to 0.9.
    f1: F1 at IoU 0.5 of that evaluation.
  """

  aim: float
  best: float
  whole: float
  auc: float
  mean_f1: float
  f1: float


def time_to_quality(
  data: pathlib.Path, steps: int, every: int, aim: float = 0.989
) -> Quality:
  """Trains `experiments/cells.py` from a cold start, all caches empty.

  Args:
    data: Folder of `train/` and `validation/`.
    steps: Updates in all, over which the learning rate falls to 0.
    every: Updates between evaluations.
    aim: Validation AUC to be reached.
  """
  with tempfile.TemporaryDirectory() as folder:
    place = pathlib.Path(folder)
    command = train_command(
      place / 'run', f'data.path={data}', steps=steps, every=every
    )
    environment = os.environ | {'XDG_CACHE_HOME': str(place / 'cache')}
    start = time.monotonic()
    with open(place / 'log', 'wb') as log:
      process = subprocess.Popen(
        command, stdout=log, stderr=log, env=environment
      )
      seen = [
        (time.monotonic() - start, line['validation'])
        for line in _lines(place / 'run' / 'metrics.jsonl', process)
        if 'validation' in line
      ]
    whole = time.monotonic() - start
    if process.returncode:
      last = (place / 'log').read_bytes()[-2000:].decode(errors='replace')
      raise RuntimeError(f'training exited with {process.returncode}: {last}')
  best = max(seen, key=lambda pair: pair[1]['mean_f1'])
  return Quality(
    next((at for at, v in seen if v['roc_auc'] >= aim), float('nan')),
    best[0],
    whole,
    max(v['roc_auc'] for _, v in seen),
    best[1]['mean_f1'],
    best[1]['f1'],
  )


def _lines(
  path: pathlib.Path, process: subprocess.Popen
) -> Iterator[dict[str, object]]:
  """Gives the JSON lines of a file as they are written."""
  with contextlib.ExitStack() as stack:
    file, rest = None, ''
    while True:
      ended = process.poll() is not None
      if file is None and path.exists():
        file = stack.enter_context(open(path))
      if file is not None:
        *lines, rest = (rest + file.read()).split('\n')
        yield from map(json.loads, lines)
      if ended:
        return
      time.sleep(0.2)
