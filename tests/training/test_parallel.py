"""What the training program for several devices consists of."""

import json
import os
import pathlib
import subprocess
import sys

import jax
import pytest
import quick

from cellseg_jax.config import ConfigError
from cellseg_jax.training import parallel

TESTS = pathlib.Path(__file__).parents[1]


@pytest.fixture(scope='module')
def program():
  """Of four CPU devices; see `programs.py`."""
  paths = [str(TESTS), *filter(None, [os.environ.get('PYTHONPATH')])]
  ended = subprocess.run(
    [sys.executable, str(TESTS / 'training' / 'programs.py')],
    capture_output=True,
    text=True,
    check=False,
    env=os.environ
    | {'JAX_NUM_CPU_DEVICES': '4', 'PYTHONPATH': os.pathsep.join(paths)},
  )
  assert ended.returncode == 0, ended.stderr
  return json.loads(ended.stdout)


def test_one_all_reduce_of_all_gradients_a_step(program):
  """With them go the sums of losses and of weights.

  The others are batch normalisation's: of every channel mean and mean square on
  the way there, and their gradients on the way back.
  """
  gradients = 4 * (program['parameters'] + 2)
  others = [size for size in program['all_reduces'] if size != gradients]
  assert len(program['all_reduces']) == len(others) + 1
  assert sum(others) == 4 * 4 * program['channels']
  assert program['parameters'] > 10_000
  assert program['channels'] > 100


def test_no_operation_adds_up_in_an_order_of_chance(program):
  """On GPUs, scattering adds atomically; a windowed maximum's gradient too."""
  found = set(program['operations'])
  assert {'convolution', 'gather', 'maximum', 'all_reduce'} <= found
  assert not {'scatter', 'select_and_scatter'} & found


def test_the_deterministic_mode_is_known_to_xla():
  name, value = parallel.DETERMINISTIC.removeprefix('--').split('=')
  assert quick.accepted(name, value == 'true')
  assert not quick.accepted(f'{name}_of_another_name', True)


def test_the_same_bits_are_not_promised_where_xla_was_not_told(monkeypatch):
  monkeypatch.setenv('XLA_FLAGS', '--xla_dump_to=')
  parallel.check_deterministic(True)  # On a CPU it needs nothing.
  monkeypatch.setattr(jax, 'default_backend', lambda: 'gpu')
  parallel.check_deterministic(False)
  with pytest.raises(ConfigError, match=r'config\.training\.deterministic'):
    parallel.check_deterministic(True)
  monkeypatch.setenv('XLA_FLAGS', f'--xla_dump_to= {parallel.DETERMINISTIC}')
  parallel.check_deterministic(True)


def test_bad_input_of_one_process_refuses_and_a_fault_stays_a_fault(
  monkeypatch,
):
  told = []
  monkeypatch.setattr(jax, 'process_count', lambda: 2)
  monkeypatch.setattr(parallel, '_from_all', told.append)
  for error, raised in (
    (ConfigError('no images'), parallel.Refused),
    (TypeError('no such method'), TypeError),
  ):
    with (
      pytest.raises(raised, match=str(error)),
      parallel.unanimous((ConfigError,)),
    ):
      raise error
  assert told == ['no images', 'no such method']
