"""Bytes as a `config.json` or as flags: read, or refused by `ConfigError`."""

import json

from absl import flags

from cellseg_jax import experiments, serialization
from cellseg_jax.cli import config_flag
from cellseg_jax.config import Config, ConfigError
from cellseg_jax.validation import validate
from fuzz.scratch import scratch_folder
from fuzz.take import Take

FOLDER = scratch_folder()
WORDS = [
  word
  for field, value in serialization.flat(Config()).items()
  for word in (field, *field.split('.'), json.dumps(value))
]


def one_input(data):
  """Reads the bytes as a file, and as flags separated by zeros."""
  take = Take(data)
  if take.number(2):
    read_flags(take.rest())
  else:
    read_file(take.rest())


def read_file(content):
  path = FOLDER / 'config.json'
  path.write_bytes(content)
  try:
    config = serialization.load(path)
    validate(config)
  except ConfigError:
    return
  # What is read can be written, and is then the same.
  serialization.save(config, path)
  assert serialization.load(path) == config


def read_flags(content):
  words = content.decode('utf8', 'surrogateescape').split('\0')
  try:
    # Only fields: --config=FILE would run a file.
    argv = ['train', *(f'--config.{word}' for word in words)]
    config_flag.parse(argv, 'quickstart')
  except (ConfigError, flags.Error):
    pass


def seeds():
  """Configurations that are in order."""
  for config in (
    Config(),
    *(make() for make in experiments.EXPERIMENTS.values()),
  ):
    values = serialization.to_dict(config)
    yield b'\0' + json.dumps(values).encode()
  for field, value in serialization.flat(Config()).items():
    yield b'\1' + f'{field}={value}\0{field}'.encode()
