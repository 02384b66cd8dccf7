"""Worker processes, some of which are killed, lose nothing.

What one process gives is computed in one of them: on another number of cores,
XLA rounds otherwise.
"""

import os
import pathlib
import signal
import sys

import numpy as np
import pytest
import tifffile
from tiny_sets import cells
from untrained import save_untrained_that_finds

from cellseg_jax.cli import process
from cellseg_jax.cluster import connect, large, segment, tasks
from cellseg_jax.cluster.work import Work
from cellseg_jax.config import Config
from cellseg_jax.inference import batch, files, predict_large
from cellseg_jax.inference.large import segment_large
from cellseg_jax.inference.load import load_model
from cellseg_jax.serialization import replace

pytestmark = pytest.mark.slow


@pytest.fixture(scope='module')
def run(tmp_path_factory):
  """The folder of a network that was never trained; it finds many cells."""
  workdir = tmp_path_factory.mktemp('run')
  config = replace(
    Config(),
    model={'width': 0.05, 'head': 'skips'},
    decoding={'min_area': 5, 'rim': 1},
  )
  save_untrained_that_finds(workdir, config, cells(0, (256, 256))[0])
  return workdir


@pytest.fixture(scope='module')
def client():
  with connect.connected('local:2', process.prepare) as client:
    yield client


def ready(client, run, out):
  """Returns a cluster, the model, and what tasks need of the run."""
  out.mkdir()
  model, options = load_model(run), files.Options()
  work = Work((str(run),), out, options, batch.digest(model, options))
  return tasks.Cluster(client), model, work


def on_cluster(client, run, jobs, out, after):
  """Segments on a cluster; returns the label images by name."""
  cluster, model, work = ready(client, run, out)
  for outcome in segment.segment_files(cluster, model, jobs, work):
    assert outcome.record.status == 'ok', outcome.record.reason
    after(outcome)
  return {job.name: tifffile.imread(out / f'{job.name}.tif') for job in jobs}


def in_one_process(run, jobs, out):
  out.mkdir()
  model, options = load_model(run), files.Options()
  common = batch.digest(model, options)
  for outcome in batch.segment_files(model, jobs, out, options, common):
    assert outcome.record.status == 'ok', outcome.record.reason
  return {job.name: tifffile.imread(out / f'{job.name}.tif') for job in jobs}


def in_small_tiles(run, path):
  image = tifffile.imread(path)
  return segment_large(load_model(run), image, tile=256, overlap=64, block=128)[
    0
  ]


def write(folder, count, shape):
  jobs = []
  for seed in range(count):
    jobs.append(batch.Job(folder / f'{seed}.tif', f'{seed}'))
    tifffile.imwrite(jobs[-1].image, cells(seed, shape)[0])
  return jobs


def test_a_large_image_has_the_labels_of_one_process(run, client, tmp_path):
  image = np.tile(cells(0, (300, 416))[0], (7, 5))
  assert image.size > files.WHOLE
  job = batch.Job(tmp_path / 'wide.tif', 'wide')
  tifffile.imwrite(job.image, image)
  one = client.submit(in_one_process, run, [job], tmp_path / 'one').result()
  cluster, model, work = ready(client, run, tmp_path / 'out')
  tasks_done = []
  cluster.watch = lambda *event: tasks_done.append(event)
  (outcome,) = segment.segment_files(cluster, model, [job], work)
  assert outcome.record.status == 'ok', outcome.record.reason
  assert len(tasks_done) > 20
  found = tifffile.imread(work.out / 'wide.tif')
  assert found.max() > 100
  np.testing.assert_array_equal(found, one['wide'])


class Killer:
  """Kills a worker at some calls, each time another process."""

  def __init__(self, client, *at):
    self.client, self.at, self.calls, self.killed = client, at, 0, []

  def __call__(self, *event):
    self.calls += 1
    if self.calls in self.at:
      pids = self.client.run(running, nanny=True).values()
      self.killed.append(next(filter(None, pids)))
      os.kill(self.killed[-1], signal.SIGKILL)


def running(dask_worker):
  """The worker of a nanny; one that dies as it starts is not started anew."""
  return dask_worker.pid if dask_worker.status.name == 'running' else None


def test_a_killed_worker_loses_no_file(run, client, tmp_path):
  jobs = write(tmp_path, 24, (96, 128))
  one = client.submit(in_one_process, run, jobs, tmp_path / 'one').result()
  killer = Killer(client, 3, 9)
  other = on_cluster(client, run, jobs, tmp_path / 'other', after=killer)
  assert len(set(killer.killed)) == 2
  assert sum(labels.max() > 1 for labels in one.values()) > 12
  for name, labels in one.items():
    np.testing.assert_array_equal(other[name], labels)


def test_a_killed_worker_loses_no_block(run, client, tmp_path, monkeypatch):
  (job,) = write(tmp_path, 1, (500, 600))
  monkeypatch.setattr(large, 'TILE', 256)
  monkeypatch.setattr(large, 'OVERLAP', 64)
  monkeypatch.setattr(large, 'BLOCK', 128)
  monkeypatch.setattr(predict_large, '_BLOCK', 256)
  expected = client.submit(in_small_tiles, run, job.image).result()
  assert expected.max() > 20
  # While the image is surveyed, seen, decoded, and its cells written.
  killer = Killer(client, 2, 10, 25, 65)
  cluster, model, work = ready(client, run, tmp_path / 'out')
  cluster.watch = killer
  with large.stages(cluster, work, job.name) as stages:
    (outcome,) = batch.outcomes(
      model, [job], work.out, work.options, work.common, stages
    )
  assert outcome.record.status == 'ok', outcome.record.reason
  assert len(set(killer.killed)) == 4
  found = tifffile.imread(work.out / '0.tif')
  np.testing.assert_array_equal(found, expected)


def threads():
  """Names of all threads, and the cores that they may use."""
  folder = pathlib.Path('/proc/self/task')
  names = [(path / 'comm').read_text().strip() for path in folder.iterdir()]
  return names, {
    len(os.sched_getaffinity(int(path.name))) for path in folder.iterdir()
  }


@pytest.mark.skipif(sys.platform != 'linux', reason='needs /proc')
def test_workers_compute_with_one_thread_each(client):
  for names, cores in client.run(threads).values():
    assert names.count('tf_XLAEigen') == 1
    assert cores == {len(os.sched_getaffinity(0))}
