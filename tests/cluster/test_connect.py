"""What `--dask` takes, and what it says of what it cannot take."""

import os
import socket
import sys

import pytest

from cellseg_jax.cluster import connect


def nothing():
  """Prepares nothing."""


@pytest.mark.parametrize('address', ['local:0', 'locally', '8'])
def test_an_address_that_is_none_is_refused(address):
  with (
    pytest.raises(ValueError, match=f'found {address}'),
    connect.connected(address, nothing),
  ):
    pass


def test_a_scheduler_that_does_not_answer_is_named(monkeypatch):
  with socket.socket() as taken:
    taken.bind(('127.0.0.1', 0))  # And never listens.
    address = f'tcp://127.0.0.1:{taken.getsockname()[1]}'
    monkeypatch.setattr(connect, '_SECONDS', 0.5)
    with (
      pytest.raises(connect.ClusterError, match=f'no cluster at {address}'),
      connect.connected(address, nothing),
    ):
      pass


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
def test_a_thread_that_ends_meanwhile_is_passed_over(monkeypatch):
  moved = []

  def move(thread, cores):
    if thread == 1:
      raise ProcessLookupError
    moved.append((thread, cores))

  monkeypatch.setattr(os, 'listdir', lambda folder: ['1', '2'])
  monkeypatch.setattr(os, 'sched_setaffinity', move)
  connect._keep_to({0})
  assert moved == [(2, {0})]


def test_without_dask_the_extra_is_named(monkeypatch):
  monkeypatch.setitem(sys.modules, 'distributed', None)
  with (
    pytest.raises(connect.ClusterError, match=r'cellseg_jax\[cluster\]'),
    connect.connected('local:1', nothing),
  ):
    pass
