"""A run's folder with changed files: loaded, or refused by a clean error."""

import contextlib
import json
import shutil

from absl import logging
import tensorstore as ts
from untrained import save_untrained

from cellseg_jax import serialization
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.inference.load import load_model
from cellseg_jax.model import fcn
from cellseg_jax.training import manifest
from cellseg_jax.training.checkpoints import CheckpointError
from fuzz.scratch import scratch_folder
from fuzz.take import Take

CLEAN = (FileNotFoundError, ConfigError, CheckpointError)
FOLDER = scratch_folder()
VALUES = (
  *(None, True, -1, 0, 10**10, 2**63, 1e400, '', '../..', '/etc/passwd'),
  *([], {}, [[]], {'a': None}, '9' * 5000, [10**5, 10**5]),
)


def make_run():
  """Saves the smallest run there is, once; returns its folder."""
  whole = FOLDER / 'whole'
  if whole.is_dir():
    return whole
  logging.set_verbosity(logging.FATAL)
  # One Inception block a stage, for good: this is a process of its own.
  fcn.STAGES = tuple(dict([next(iter(s.items()))]) for s in fcn.STAGES)
  config = serialization.replace(Config(), model={'width': 0.05})
  save_untrained(whole, config, {'roc_auc': 0.5, 'threshold': 0.4})
  return whole


def one_input(data):
  """Changes some files as the bytes say, signs them anew, and loads them."""
  take = Take(data)
  folder = FOLDER / 'run'
  shutil.rmtree(folder, ignore_errors=True)
  shutil.copytree(make_run(), folder)
  for _ in range(1 + take.number(3)):
    names = sorted(p for p in folder.rglob('*') if p.is_file())
    names = [path for path in names if path.name != manifest.NAME]
    if take.number(3) == 2:
      item = (
        folder / 'checkpoints' / '1' / take.choice(('variables', 'training'))
      )
      change_stored(item, take)
    elif names:
      change(take.choice(names), take)
  if take.number(8):  # As whoever sends it would.
    manifest.write(folder / 'checkpoints' / '1')
  before = contents(folder)
  with contextlib.suppress(CLEAN):
    load_model(folder)
  assert contents(folder) == before, 'loading a model changed its folder'


def contents(folder):
  return {
    path.relative_to(folder): path.read_bytes() if path.is_file() else None
    for path in folder.rglob('*')
  }


def change(path, take):
  """Damages a file, or says something else in it."""
  kind, content = take.number(6), path.read_bytes()
  if kind == 0:
    path.unlink()
  elif kind == 1:
    path.write_bytes(content[: take.number(len(content) + 1)])
  elif kind == 2:
    path.write_bytes(take.piece(take.number(64)))
  elif kind == 3 and is_json(content):
    path.write_text(json.dumps(replaced(json.loads(content), take)))
  else:
    piece = take.piece(1 + take.number(8))
    place = take.number(len(content) + 1)
    path.write_bytes(content[:place] + piece + content[place + len(piece) :])


def is_json(content):
  """Whether it is an object of JSON, and no other change has damaged it."""
  try:
    return isinstance(json.loads(content), dict)
  except ValueError:
    return False


def change_stored(item, take):
  """Says something else in what lies within OCDBT, its checksums in order."""
  base = {'driver': 'file', 'path': f'{item}/'}
  try:
    store = ts.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
    keys = store.list().result()
    if not keys:
      return
    key = take.choice(keys)
    content = store.read(key).result().value
  except ValueError:  # Another change has damaged it.
    return
  if is_json(content) and take.number(4):
    content = json.dumps(replaced(json.loads(content), take)).encode()
  else:
    place = take.number(len(content) + 1)
    piece = take.piece(1 + take.number(8))
    content = content[:place] + piece + content[place + len(piece) :]
  store.write(key, content).result()


def replaced(values, take):
  """Puts another value somewhere into what was read of JSON."""
  places = [(None, None)]
  todo = [values]
  while todo:
    one = todo.pop()
    keys = one if isinstance(one, dict) else range(len(one))
    for key in list(keys):
      places.append((one, key))
      if isinstance(one[key], (dict, list)):
        todo.append(one[key])
  inside, key = take.choice(places)
  value = take.choice(VALUES)
  if inside is None:
    return value
  inside[key] = value
  return values


def seeds():
  """A change of each kind in each of the first files."""
  yield b''
  for file in range(24):
    for kind in range(6):
      yield bytes([0, 0, file, kind, 3, 1, 2, 3, 4, 5, 6, 7])
  for key in range(0, 150, 5):
    for place in range(12):
      yield bytes([0, 2, 0, key, 1, place, key % len(VALUES)])
