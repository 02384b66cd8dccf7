"""Images on the devices beside crops streamed from the disk, on a large set.

  python tests/benchmarks/streaming.py --data=FOLDER --out=runs/streaming

FOLDER holds `train/` and `validation/`. Its training images are linked many
times over, and `experiments/cells.py` takes a few steps of both forms, each in
a process of its own for their memory, then by turns in one for their speed.
Of every turn the first steps are not counted: they were read ahead.
"""

import argparse
import functools
import json
import pathlib
import resource
import subprocess
import sys
import time

FORMS = ('never', 'always')  # Values of `training.stream`.
MEGABYTE = 2**20
SETTLE = 3  # Seconds in which all is read that is read ahead.


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--times', type=int, default=100)
  parser.add_argument('--steps', type=int, default=20)
  parser.add_argument('--rounds', type=int, default=4)
  parser.add_argument('--forms', nargs='+', choices=FORMS, help='in here')
  arguments = parser.parse_args()
  if arguments.forms:
    print(json.dumps(measure(arguments)))
    return
  repeat(arguments.data, arguments.out / 'set', arguments.times)
  found = {}
  for forms in (['always'], ['never'], list(FORMS)):
    told = subprocess.run(
      [sys.executable, __file__, *sys.argv[1:], '--forms', *forms],
      stdout=subprocess.PIPE,
      text=True,
      check=True,
    ).stdout
    found['-'.join(forms)] = json.loads(told.splitlines()[-1])
    print(forms, found['-'.join(forms)], flush=True)
  path = arguments.out / 'streaming.json'
  path.write_text(json.dumps(found, indent=1) + '\n')


def repeat(data: pathlib.Path, folder: pathlib.Path, times: int) -> None:
  """Links every training image so many times, the others once."""
  for split, count in (('train', times), ('validation', 1)):
    for part in ('images', 'labels'):
      made = folder / split / part
      made.mkdir(parents=True, exist_ok=True)
      for path in sorted((data / split / part).iterdir()):
        for number in range(count):
          link = made / f'{path.stem}_{number}{path.suffix}'
          if not link.is_symlink():
            link.symlink_to(path.resolve())


def peak() -> float:
  """Returns the most memory that this process had so far, in MB."""
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / MEGABYTE


def measure(arguments: argparse.Namespace) -> dict[str, object]:
  """Takes steps of the given forms by turns; returns times and memory."""
  from cellseg_jax.cli import process

  process.prepare()
  # Imported late: as a program's own start.
  from cellseg_jax.datasets.load import load
  from cellseg_jax.datasets.survey import survey
  from cellseg_jax.experiments import cells
  from cellseg_jax.serialization import replace
  from cellseg_jax.training import optimizer as optimizer_lib
  from cellseg_jax.training import parallel
  from cellseg_jax.training.feed import AHEAD, make_feed
  from cellseg_jax.training.resolve import resolve
  from cellseg_jax.training.step import init_state, train_step

  places = {
    'path': str(arguments.out / 'set'),
    'cache': str(arguments.out / 'cache'),
  }
  turn = AHEAD + 1 + arguments.steps
  config = replace(
    cells(), data=places, training={'steps': arguments.rounds * turn}
  )
  splits = load(config.data)
  known = survey(splits.train)
  config = resolve(config, known.areas, splits.pixel_size)
  found = {'images': len(splits.train), 'mb_before': peak()}
  optimizer = optimizer_lib.make_optimizer(config.optimizer, 1500)
  step = functools.partial(
    train_step,
    config=config,
    optimizer=optimizer,
    batch_size=config.training.batch_size,
  )
  runs = []
  for form in arguments.forms:
    start = time.monotonic()
    formed = replace(config, training={'stream': form})
    feed = make_feed(splits, formed, known, lambda _: None)
    state = parallel.replicate(init_state(config, optimizer))
    advance = parallel.parallel_steps(step, 1, feed.streamed)
    runs.append([advance, state, feed.calls(0, 1), []])
    found[f'seconds_until_first_{form}'] = time.monotonic() - start
  for _ in range(arguments.rounds):
    for run in runs:
      run[3].append(take(run, AHEAD + 1, arguments.steps))
      time.sleep(SETTLE)
  for form, run in zip(arguments.forms, runs, strict=True):
    for name, times in zip(
      ('wall', 'cpu'), zip(*run[3], strict=True), strict=True
    ):
      found[f'{name}_seconds_a_step_{form}'] = times
  return found | {'mb_peak': peak()}


def take(run: list, uncounted: int, steps: int) -> tuple[float, float]:
  """Takes steps; returns the wall and processor seconds of one counted step."""
  import jax

  loss = None
  for number in range(uncounted + steps):
    if number == uncounted:
      jax.block_until_ready(loss)
      wall, cpu = time.monotonic(), time.process_time()
    run[1], loss = run[0](run[1], next(run[2]))
  jax.block_until_ready(loss)  # Not sooner: the loop does not wait either.
  return tuple(
    round((now - then) / steps, 3)
    for now, then in ((time.monotonic(), wall), (time.process_time(), cpu))
  )


if __name__ == '__main__':
  main()
