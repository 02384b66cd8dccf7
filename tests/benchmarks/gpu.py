"""All that needs a GPU, in parts that end within minutes and can be resumed.

  cd tests && python -m benchmarks --suite gpu --part speed --data DIR

DIR holds sets of images, each with `train/` and `validation/`. What is done is
kept in one JSON file (`--record`); the same command goes on with the rest, and
ends with a short table. The parts `speed`, `train` and `checks` need JAX, Flax,
Optax, Orbax and what reads the images; PyTorch is compared with if it is there.
"""

from collections.abc import Callable, Mapping
import functools
import json
import pathlib
import sys
import tempfile
from typing import Any

import imageio.v3 as iio
import numpy as np

from benchmarks import networks, processes, profile, records
from benchmarks.side_by_side import compare

STEPS = 20  # Training steps a call.
AIM = 0.989
# XLA may add in any order, unless told.
DETERMINISTIC = '--xla_gpu_deterministic_ops=true'


def pixels_to_labels(model: str, image: np.ndarray, batch: int):
  """So many frames on the device to labels on the device; see `networks`."""
  import jax

  import cellseg_jax
  from cellseg_jax.inference.load import load_model

  loaded = jax.device_put(load_model(model))
  frames = np.stack([np.roll(image, 7 * i, 0) for i in range(batch)])
  frames = jax.device_put(frames.astype(np.float32))
  find = jax.jit(cellseg_jax.segment)
  return lambda: find(loaded, frames).block_until_ready()


def speed(data: pathlib.Path, folder: pathlib.Path) -> dict[str, Callable]:
  """The network, a training step, pixels to labels."""
  pieces, torch = {}, networks.torch_forward
  for batch in (1, 8):
    at = ('transposed', batch, 1024)
    pieces[f'forward, {batch} x 1024x1024'] = functools.partial(
      _timed,
      {
        'ours': functools.partial(networks.ours_forward, *at),
        'PyTorch': functools.partial(torch, *at, False),
        'PyTorch compiled': functools.partial(torch, *at, True),
      },
      batch,
    )
  for head, batch, side in (('transposed', 8, 256), ('skips', 32, 256)):
    at = (head, batch, side)
    ours = functools.partial(networks.ours_step, *at, STEPS)
    theirs = functools.partial(networks.torch_step, *at)
    pieces[f'training step, {head}, {batch} x {side}x{side}'] = (
      functools.partial(
        _timed,
        {
          'ours': ours,
          'PyTorch': functools.partial(theirs, False, STEPS),
          'PyTorch compiled': functools.partial(theirs, True, STEPS),
        },
        batch * STEPS,
      )
    )
  pieces['pixels to labels'] = functools.partial(_labels, data, folder)
  return pieces


def _timed(makes: Mapping[str, Callable], images: int) -> dict[str, Any]:
  """Seconds an image of each, and images a second."""
  found = {}
  for name, timing in compare(makes).items():
    found[name] = timing.failed or {
      'seconds_per_image': timing.median / images,
      'images_per_second': images / timing.median,
      'first_call': timing.first,
    }
  return found


def _labels(data: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
  images = _sets(data)[0]
  model = _short_run(images, folder)
  image = iio.imread(min((images / 'validation' / 'images').iterdir()))
  found = {}
  for batch in (1, 8, 32):
    make = functools.partial(
      pixels_to_labels, str(model), image[:1024, :1024], batch
    )
    found[f'batch {batch}'] = _timed({'ours': make}, batch)['ours']
  return found


def train(data: pathlib.Path, folder: pathlib.Path) -> dict[str, Callable]:
  """From a cold start to the aim, and each set at full length, with scores."""
  pieces: dict[str, Callable] = {}
  for images in _sets(data):
    pieces[f'{images.name}, time to AUC {AIM}'] = functools.partial(
      _until_aim, images
    )
    pieces[f'{images.name}, full length'] = functools.partial(
      _full, images, folder / images.name
    )
  return pieces


def _until_aim(images: pathlib.Path) -> dict[str, Any]:
  return processes.time_to_quality(images, 240, 60, AIM)._asdict()


def _full(images: pathlib.Path, workdir: pathlib.Path) -> dict[str, Any]:
  ended = _train(images, workdir)
  out = workdir / 'labels'
  command = [*processes.CELLSEG, 'segment', '--model', workdir, '--out', out]
  processes.run([*command, images / 'validation' / 'images'])
  report = workdir / 'scores.json'
  command = [*processes.CELLSEG, 'evaluate', '--predictions', out]
  command += ['--labels', images / 'validation' / 'labels', '--json', report]
  processes.run(command)
  pooled = json.loads(report.read_text())['pooled']
  kept = ('merged', 'split', 'missed', 'extra', 'true')
  return {
    'seconds': ended.wall,
    **{f'f1@{iou}': pooled['f1'][iou] for iou in ('0.5', '0.7', '0.8', '0.9')},
    **{name: pooled[name] for name in kept},
  }


def checks(data: pathlib.Path, folder: pathlib.Path) -> dict[str, Callable]:
  """Tests, the same bits twice, half and full precision, where time goes."""
  images = _sets(data)[0]
  return {
    'tests': _tests,
    'same bits twice': functools.partial(_bits, images, folder, ''),
    'same bits twice, deterministic': functools.partial(
      _bits, images, folder, DETERMINISTIC
    ),
    'half and full precision': functools.partial(_precision, images, folder),
    'profile': _profile,
  }


def _tests() -> dict[str, Any]:
  """The rooms whose results depend on the device."""
  rooms = ('model', 'training', 'inference/pure', 'inference/test_pure.py')
  root = processes.ROOT
  places = [root / 'tests' / room for room in rooms]
  command = [sys.executable, '-m', 'pytest', '-q', '-n', '4']
  ended = processes.run(
    [*command, *(place for place in places if place.exists())]
  )
  return {'passed': True, 'seconds': ended.wall}


def _bits(
  images: pathlib.Path, folder: pathlib.Path, flags: str
) -> dict[str, Any]:
  """Trains twice; says whether all weights are the same."""
  digests = []
  with tempfile.TemporaryDirectory(dir=folder) as place:
    for number in range(2):
      workdir = pathlib.Path(place, f'{number}')
      _train(images, workdir, steps=60, environment={'XLA_FLAGS': flags})
      digests.append(_digest(workdir))
  return {'same': digests[0] == digests[1], 'flags': flags}


def _digest(workdir: pathlib.Path) -> str:
  """Of a run's weights, by a process that need not have a device."""
  script = (
    'import hashlib, sys, jax, numpy as np; '
    'from cellseg_jax.inference.load import load_model; '
    'leaves = jax.tree.leaves(load_model(sys.argv[1]).variables); '
    'data = b"".join(np.asarray(leaf).tobytes() for leaf in leaves); '
    'open(sys.argv[2], "w").write(hashlib.sha256(data).hexdigest())'
  )
  out = workdir / 'digest'
  processes.run([sys.executable, '-c', script, workdir, out])
  return out.read_text()


def _precision(images: pathlib.Path, folder: pathlib.Path) -> dict[str, Any]:
  """Scores one model with maps of half and of full precision."""
  model = _short_run(images, folder)
  out = folder / 'precision.json'
  script = pathlib.Path(__file__).with_name('precision.py')
  processes.run([sys.executable, script, f'{model}={images}', '--json', out])
  return json.loads(out.read_text())


def _profile() -> dict[str, Any]:
  """What XLA counts of a forward pass and a training step, and the rates."""
  work = networks.operations('transposed', 1, 1024)
  make = functools.partial(networks.ours_forward, 'transposed', 1, 1024)
  product = functools.partial(networks.matrix_product, 8192, 8192, 8192)
  timings = compare({'forward': make, 'product': product})
  rates = {
    'forward': work / timings['forward'].median,
    'product, float32': 2 * 8192**3 / timings['product'].median,
  }
  return {
    'operations': work,
    'per_second': rates,
    'shares': profile.network(1024, 256),
  }


def _short_run(images: pathlib.Path, folder: pathlib.Path) -> pathlib.Path:
  """Returns the folder of a run of 240 steps, trained if it is not there."""
  workdir = folder / 'short'
  if not (workdir / 'evaluation.json').exists():
    _train(images, workdir, steps=240)
  return workdir


def _train(
  images: pathlib.Path,
  workdir: pathlib.Path,
  steps: int = 0,
  environment: Mapping[str, str] | None = None,
) -> processes.Ended:
  """Trains `experiments/cells.py`, at its own length unless told otherwise."""
  command = processes.train_command(workdir, f'data.path={images}', steps=steps)
  return processes.run(command, environment)


def _sets(data: pathlib.Path) -> list[pathlib.Path]:
  """The folders of labelled sets; one that is a set itself counts alone."""
  found = [data] if (data / 'train').is_dir() else sorted(data.iterdir())
  found = [path for path in found if (path / 'validation' / 'labels').is_dir()]
  if not found:
    sys.exit(f'{data}: no folder with train/ and validation/ in it')
  return found


PARTS = {'speed': speed, 'train': train, 'checks': checks}


def run(parts: list[str], data: pathlib.Path, record: pathlib.Path) -> None:
  """Does what is not done yet; prints a short table of everything."""
  done = json.loads(record.read_text()) if record.exists() else {}
  folder = record.with_suffix('')  # Of trained models.
  folder.mkdir(parents=True, exist_ok=True)
  for part in parts:
    for name, piece in PARTS[part](data, folder).items():
      if f'{part}: {name}' in done:
        continue
      print(f'{part}: {name}', flush=True)
      done[f'{part}: {name}'] = {'figures': piece(), **records.environment()}
      record.write_text(json.dumps(done, indent=1) + '\n')
  for name, row in done.items():
    print(f'{name} | {_short(row["figures"])}')


def _short(figures: Any) -> str:
  if isinstance(figures, dict):
    return '; '.join(f'{name} {_short(v)}' for name, v in figures.items())
  return f'{figures:.4g}' if isinstance(figures, float) else f'{figures}'
