"""Whole runs, each in a process of its own, as a user would start them."""

import json
import os
import pathlib
import subprocess
import sys
import time

import jax
import numpy as np
import quick

import cellseg_jax

ROOT = pathlib.Path(__file__).parents[1]
STEPS = 12

TINY = {
  'data.dataset': 'labelled_folder',
  'data.cell_diameter': 10,
  'model.width': 0.05,
  'model.head': 'skips',
  'model.maps': 'foreground,distance,centre',
  'optimizer.average': 0.9,
  'decoding.method': 'ascent',
  'decoding.min_area': -1,
  'decoding.rim': -1,
  'training.steps': STEPS,
  'training.batch_size': 4,
  'training.crop_size': 32,
  'training.log_every': 1,
  'training.checkpoint_every': 3,
  'training.evaluate_every': 6,
}


def command(data, workdir, **fields):
  """The command line of a tiny run on the images under `data`."""
  fields = TINY | {
    'data.path': data,
    'data.cache': data.parent / 'cache',
    **{name.replace('__', '.'): value for name, value in fields.items()},
  }
  return [
    sys.executable,
    str(ROOT / 'run_train.py'),
    f'--workdir={workdir}',
    *(f'--config.{field}={value}' for field, value in fields.items()),
  ]


def environment(devices):
  """So many CPU devices, and programs compiled quickly: they run once."""
  options = {k: str(v).lower() for k, v in quick.OPTIONS.items()}
  flags = [f'--{option}={value}' for option, value in options.items()]
  return os.environ | {
    'JAX_NUM_CPU_DEVICES': str(devices),
    'XLA_FLAGS': ' '.join(flags),
  }


def run(arguments, devices=1):
  """Runs a command to its end on so many CPU devices."""
  return subprocess.run(
    arguments,
    capture_output=True,
    text=True,
    check=False,
    env=environment(devices),
  )


def start(arguments, devices=1):
  """Starts a command on so many CPU devices; what it says is kept."""
  return subprocess.Popen(
    arguments,
    stdout=subprocess.PIPE,
    stderr=subprocess.STDOUT,
    text=True,
    env=environment(devices),
  )


def wait_for(path, *processes):
  """Waits until running processes have made a file or folder."""
  until = time.monotonic() + 300
  while not path.exists():
    for process in processes:
      assert process.poll() is None, process.stdout.read()
    assert time.monotonic() < until
    time.sleep(0.01)


def kill_after_a_checkpoint(arguments, workdir, devices):
  """Starts a run and kills it when its first checkpoint is whole."""
  process = start(arguments, devices)
  wait_for(workdir / 'checkpoints' / '3', process)
  process.kill()
  process.communicate()


def arrays(workdir):
  """All weights of the model of a run, by name."""
  model = cellseg_jax.load_model(workdir)
  flat, _ = jax.tree_util.tree_flatten_with_path(model.variables)
  return {str(path): np.asarray(value) for path, value in flat}


def losses(workdir):
  lines = (workdir / 'metrics.jsonl').read_text().splitlines()
  return [line['loss'] for line in map(json.loads, lines) if 'loss' in line]
