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
    with pytest.raises(Interrupted) as raised, interrupts.at_once():
      pytest.fail('was asked before')
    assert raised.value.exit_code == 128 + number
  assert signal.getsignal(number) == before


def test_a_signal_ends_a_block_that_may_be_ended():
  with Interrupts() as interrupts:
    with pytest.raises(Interrupted), interrupts.at_once():
      signal.raise_signal(signal.SIGTERM)
    assert interrupts.asked == signal.SIGTERM


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
