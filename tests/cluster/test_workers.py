"""Worker processes, some of which are killed, lose nothing."""

import os
import signal

import numpy as np
import pytest
import tifffile
from tiny_sets import cells
from untrained import save_untrained

from cellseg_jax.cli import process
from cellseg_jax.cluster import connect, segment
from cellseg_jax.config import Config
from cellseg_jax.inference import batch, files
from cellseg_jax.inference.load import load_model
from cellseg_jax.serialization import replace

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The folder of a network that was never trained."""
  workdir = tmp_path_factory.mktemp('run')
  config = replace(
    Config(),
    model={'width': 0.05, 'head': 'skips'},
    decoding={'min_area': 5, 'rim': 0},
  )
  save_untrained(workdir, config)
  return workdir


@pytest.fixture
def client():
  with connect.connected('local:2', process.prepare) as client:
    yield client


def segmented(run, jobs, out, client=None, after=lambda outcome: None):
  """Segments here, or on a cluster; returns the label images by name."""
  out.mkdir()
  model, options = load_model(run), files.Options()
  common = batch.digest(model, options)
  if client is None:
    outcomes = batch.segment_files(model, jobs, out, options, common)
  else:
    work = segment.Work((str(run),), out, options, common)
    outcomes = segment.segment_files(client, model, jobs, work)
  for outcome in outcomes:
    assert outcome.record.status == 'ok', outcome.record.reason
    after(outcome)
  return {job.name: tifffile.imread(out / f'{job.name}.tif') for job in jobs}


def write(folder, count, shape):
  jobs = []
  for seed in range(count):
    jobs.append(batch.Job(folder / f'{seed}.tif', f'{seed}'))
    tifffile.imwrite(jobs[-1].image, cells(seed, shape)[0])
  return jobs


def same(one, other):
  assert one.keys() == other.keys()
  for name, labels in one.items():
    np.testing.assert_array_equal(other[name], labels)


def one_is_killed(client):
  """Kills a worker at the third file."""
  ended = []

  def after(outcome):
    ended.append(outcome)
    if len(ended) == 3:
      pids = client.run(os.getpid)
      os.kill(next(iter(pids.values())), signal.SIGKILL)

  return after


def test_a_killed_worker_loses_nothing(run, client, tmp_path):
  jobs = write(tmp_path, 24, (96, 128))
  one = segmented(run, jobs, tmp_path / 'one')
  after = one_is_killed(client)
  same(one, segmented(run, jobs, tmp_path / 'other', client, after))


def test_tiles_of_a_large_image_are_those_of_one_process(
  run, client, tmp_path, monkeypatch
):
  monkeypatch.setattr(files, 'WHOLE', 1000)  # The client decides.
  jobs = write(tmp_path, 1, (2100, 96))
  one = segmented(run, jobs, tmp_path / 'one')
  assert one['0'].max() > 1
  same(one, segmented(run, jobs, tmp_path / 'other', client))


def test_workers_have_a_core_each(client):
  cores = client.run(lambda: sorted(os.sched_getaffinity(0)))
  available = len(os.sched_getaffinity(0))
  assert {len(found) for found in cores.values()} == {1}
  assert len({tuple(found) for found in cores.values()}) == min(2, available)
