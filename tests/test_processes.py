"""Several processes on one machine train as one."""

import contextlib
import socket
import time

import numpy as np
import pytest
from whole_runs import command, losses, run, start, STEPS, wait_for

# As in `test_devices`: updates in proportion to the gradient.
STEADY = {
  'training__batch_size': 8,
  'training__crop_size': 96,
  'training__steps': 5,
  'training__evaluate_every': 5,
  'optimizer__initial_scale': 1.0,
  'optimizer__learning_rate': 2e-4,
}


def free_port():
  with socket.socket() as found:
    found.bind(('127.0.0.1', 0))
    return found.getsockname()[1]


@contextlib.contextmanager
def processes(arguments, count, devices=2):
  """Starts so many processes of one run, each with so many CPU devices."""
  common = [
    *arguments,
    f'--coordinator_address=127.0.0.1:{free_port()}',
    f'--num_processes={count}',
  ]
  started = [
    start([*common, f'--process_id={number}'], devices)
    for number in range(count)
  ]
  try:
    yield started
  finally:
    for process in started:
      process.kill()
      process.wait()
      process.stdout.close()


@pytest.mark.parametrize('count', [2, pytest.param(4, marks=pytest.mark.slow)])
def test_processes_train_as_one(data, tmp_path, count):
  alone = tmp_path / 'alone'
  result = run(command(data, alone, **STEADY), devices=1)
  assert result.returncode == 0, result.stderr
  together = tmp_path / 'together'
  # Streamed, where the one process has all images on its device.
  streamed = command(data, together, **STEADY, training__stream='always')
  with processes(streamed, count) as started:
    said = [process.communicate()[0] for process in started]
  assert [process.returncode for process in started] == [0] * count, said
  np.testing.assert_allclose(losses(together), losses(alone), rtol=1e-5)
  assert 'Best at step' in said[0]
  # Of the others, not a word.
  for other in said[1:]:
    assert 'Training on' not in other
    assert 'step' not in other
  # What several have saved, one goes on with.
  result = run(streamed, devices=1)
  assert 'holds this run, finished' in result.stdout


@pytest.mark.slow
def test_when_one_is_gone_all_end_and_the_same_command_goes_on(data, tmp_path):
  workdir = tmp_path / 'run'
  arguments = command(data, workdir, training__batch_size=4)
  with processes(arguments, 2) as started:
    wait_for(workdir / 'checkpoints' / '3', *started)
    started[1].kill()
    gone = time.monotonic()
    said, _ = started[0].communicate(timeout=120)
    assert started[0].returncode not in (0, None)
    assert time.monotonic() - gone < 60, said
  with processes(arguments, 2) as started:
    said, _ = started[0].communicate()
    assert started[0].returncode == 0, said
  assert 'Going on from step' in said
  assert len(losses(workdir)) == STEPS
