"""Signals are noted, and end a run where nothing is lost by it."""

import os
import signal
import threading

import pytest

from cellseg_jax.training.interrupts import Interrupted, Interrupts, SIGNALS


@pytest.mark.parametrize('number', SIGNALS)
def test_a_signal_is_noted(number):
  before = signal.getsignal(number)
  with Interrupts() as interrupts:
    assert not interrupts.asked
    os.kill(os.getpid(), number)
    assert interrupts.asked == number
    assert interrupts.agreed() == number
  assert Interrupted(number).exit_code == 128 + number
  assert signal.getsignal(number) == before


def test_several_processes_end_together():
  with Interrupts(lambda noted: max(noted, 15)) as interrupts:
    assert interrupts.asked == 0
    assert interrupts.agreed() == 15


def test_other_threads_leave_signals_alone():
  before = signal.getsignal(signal.SIGTERM)

  def enter():
    with Interrupts() as interrupts:
      found.append((interrupts.asked, signal.getsignal(signal.SIGTERM)))

  found = []
  thread = threading.Thread(target=enter)
  thread.start()
  thread.join()
  assert found == [(0, before)]
