"""Several processes on one machine train as one."""

import contextlib
import json
import socket
import time

import numpy as np
import pytest
from whole_runs import (
  command,
  kill_after_a_checkpoint,
  losses,
  run,
  start,
  STEPS,
  wait_for,
)

from cellseg_jax.training.lock import locked

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
def processes(arguments, count, devices=2, last=()):
  """Starts so many processes of one run, each with so many CPU devices.

  `last` are further arguments of the last one.
  """
  common = [
    *arguments,
    f'--coordinator_address=127.0.0.1:{free_port()}',
    f'--num_processes={count}',
  ]
  started = [
    start(
      [
        *common,
        f'--process_id={number}',
        *(last if number == count - 1 else ()),
      ],
      devices,
    )
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


# What the others say when they lose one, by themselves or by JAX's service.
LOST = (
  'error: this update cannot be made',
  'Terminating process because the JAX distributed service detected fatal',
)


@pytest.mark.slow
@pytest.mark.parametrize('victim', [0, 1])
def test_when_one_is_gone_all_end_and_the_same_command_goes_on(
  data, tmp_path, victim
):
  workdir = tmp_path / 'run'
  arguments = command(data, workdir, training__batch_size=4)
  with processes(arguments, 2) as started:
    wait_for(workdir / 'checkpoints' / '3', *started)
    started[victim].kill()
    gone = time.monotonic()
    other = started[1 - victim]
    said, _ = other.communicate(timeout=120)
    assert other.returncode not in (0, None)
    assert time.monotonic() - gone < 60, said
    assert any(words in said for words in LOST), said
  with processes(arguments, 2) as started:
    said, _ = started[0].communicate()
    assert started[0].returncode == 0, said
  assert 'Going on from step' in said
  assert len(losses(workdir)) == STEPS


def check_refused(started, first, other):
  """All end with exit code 2 within a minute, each with its sentence."""
  began = time.monotonic()
  said = [process.communicate(timeout=120)[0] for process in started]
  assert time.monotonic() - began < 60, said
  assert [process.returncode for process in started] == [2, 2], said
  assert first in said[0]
  assert other in said[1]
  assert 'Traceback' not in ''.join(said)


def test_what_the_first_process_refuses_the_others_are_told(data, tmp_path):
  arguments = command(data, tmp_path)
  with locked(tmp_path), processes(arguments, 2) as started:
    check_refused(
      started,
      'error: ' + f'{tmp_path}: another run is at work here',
      f'error: process 0 of this run cannot begin: {tmp_path}: another run',
    )
  assert not (tmp_path / 'config.json').exists()


ELSEWHERE = 'error: process 1 of this run cannot begin: '


@pytest.mark.slow
@pytest.mark.parametrize(
  ('last', 'first', 'other'),
  [
    (
      '--config.optimizer.learning_rate=0.5',
      'process 1 of this run differs in optimizer.learning_rate (there 0.5',
      'process 1 of this run differs in optimizer.learning_rate (there 0.5',
    ),
    (
      '--config.optimizer.momentum=2',
      f'{ELSEWHERE}config.optimizer.momentum must be 0 to',
      'error: config.optimizer.momentum must be 0 to',
    ),
    (
      '--config.data.path=absent',
      f'{ELSEWHERE}config.data.path: there is no folder absent',
      'error: config.data.path: there is no folder absent',
    ),
  ],
)
def test_what_another_process_refuses_all_are_told(
  data, tmp_path, last, first, other
):
  arguments = command(data, tmp_path / 'run')
  with processes(arguments, 2, last=[last]) as started:
    check_refused(started, first, other)
  assert not (tmp_path / 'run').exists()


@pytest.mark.slow
def test_a_run_of_another_config_is_refused_by_all(data, tmp_path):
  workdir = tmp_path / 'run'
  kill_after_a_checkpoint(command(data, workdir), workdir, devices=1)
  arguments = command(data, workdir, optimizer__momentum=0.1)
  with processes(arguments, 2) as started:
    differs = f'{workdir} holds a run that differs in config.optimizer.momentum'
    check_refused(
      started,
      f'error: {differs}',
      f'error: process 0 of this run cannot begin: {differs}',
    )


@pytest.mark.slow
def test_checkpoints_of_four_processes_and_of_one(data, tmp_path):
  """4 processes, then 1, then 4: each goes on where the one before was."""
  workdir = tmp_path / 'run'
  arguments = command(data, workdir, training__batch_size=8)
  with processes(arguments, 4) as started:
    wait_for(workdir / 'checkpoints' / '3', *started)
  alone = start(arguments)
  wait_for(workdir / 'checkpoints' / '6', alone)
  alone.kill()
  said, _ = alone.communicate()
  assert 'Going on from step 3 of' in said
  with processes(arguments, 4) as started:
    said = [process.communicate()[0] for process in started]
    assert [process.returncode for process in started] == [0] * 4, said
  assert 'Going on from step' in said[0]
  found = json.loads((workdir / 'provenance.json').read_text())
  starts = [(s['step'], s['process_count']) for s in found['starts']]
  assert [count for _, count in starts] == [4, 1, 4]
  assert [step for step, _ in starts[:2]] == [0, 3]
  assert starts[2][0] in (6, 9)
  assert len(losses(workdir)) == STEPS
