"""A cluster gives what one process gives; it holds few tasks at a time.

The workers here are threads of this process, so that tests can reach into them;
`test_workers.py` has real ones.
"""

import json

import distributed
import numpy as np
import pytest
import quick
import tifffile
from tiny_networks import use_a_line
from tiny_sets import cells

from cellseg_jax.cluster import segment
from cellseg_jax.cluster.connect import ClusterError
from cellseg_jax.config import Config
from cellseg_jax.inference import batch, files, predict, predict_large
from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace

MAPS = quick.jit(predict.predict_maps.__wrapped__)
TILE_MAPS = quick.jit(predict_large._tile_maps.__wrapped__)


@pytest.fixture
def model(monkeypatch):
  """A model that takes bright pixels for cells, and is found in any folder."""
  use_a_line(monkeypatch)
  monkeypatch.setattr(predict, 'predict_maps', MAPS)
  monkeypatch.setattr(predict_large, '_tile_maps', TILE_MAPS)
  config = replace(Config(), decoding={'min_area': 5, 'rim': 0})
  params = {'slope': np.float32(8), 'offset': np.float32(-4)}
  model = Model({'params': params}, {'threshold': np.float32(0.5)}, config)
  monkeypatch.setattr(segment, 'load_model', lambda folder: model)
  segment._model.cache_clear()
  segment._opened.cache_clear()
  return model


@pytest.fixture(scope='module')
def client():
  with (
    distributed.LocalCluster(
      n_workers=2,
      threads_per_worker=1,
      processes=False,
      dashboard_address=None,
    ) as cluster,
    distributed.Client(cluster) as client,
  ):
    yield client


@pytest.fixture
def jobs(tmp_path):
  """Nine images."""
  jobs = []
  for seed in range(9):
    jobs.append(batch.Job(tmp_path / f'{seed}.tif', f'{seed}'))
    tifffile.imwrite(jobs[-1].image, cells(seed)[0])
  return jobs


@pytest.fixture
def work(tmp_path, model):
  """Makes a folder of outputs, and what goes with it."""

  def make(name):
    (tmp_path / name).mkdir()
    options = files.Options()
    common = batch.digest(model, options)
    return segment.Work(('run',), tmp_path / name, options, common)

  return make


def here(model, jobs, work):
  found = batch.segment_files(model, jobs, work.out, work.options, work.common)
  return list(found)


def same_labels(jobs, one, other):
  for job in jobs:
    expected, found = (
      tifffile.imread(work.out / f'{job.name}.tif') for work in (one, other)
    )
    assert expected.max() > 1
    np.testing.assert_array_equal(found, expected)


def test_files_have_the_labels_and_records_of_one_process(
  client, model, jobs, work
):
  one, other = work('one'), work('other')
  here(model, jobs, one)
  outcomes = list(segment.segment_files(client, model, jobs, other))
  assert sorted(o.job.name for o in outcomes) == [j.name for j in jobs]
  same_labels(jobs, one, other)
  for works in (one, other):
    batch.merge(works.out)
  logs = []
  for works in (one, other):
    lines = (works.out / batch.LOG).read_text().splitlines()
    logs.append([json.loads(line) | {'seconds': 0} for line in lines])
  assert logs[0] == logs[1]
  assert (one.out / 'cells.csv').read_text() == (
    other.out / 'cells.csv'
  ).read_text()
  assert batch.left_to_do(jobs, other.out, other.common) == ([], 0)


def test_tiles_have_the_labels_of_one_process(
  client, model, jobs, work, monkeypatch
):
  monkeypatch.setattr(files, 'WHOLE', 1000)  # All are large now.
  computed = []
  compute = predict_large.compute_tile

  def noted(*arguments):
    computed.append(distributed.get_worker().address)
    return compute(*arguments)

  monkeypatch.setattr(predict_large, 'compute_tile', noted)
  one, other = work('one'), work('other')
  here(model, jobs[:2], one)
  outcomes = list(segment.segment_files(client, model, jobs[:2], other))
  assert [o.record.status for o in outcomes] == ['ok', 'ok']
  assert len(computed) >= 2
  same_labels(jobs[:2], one, other)


def test_a_file_that_fails_is_tried_on_another_worker_and_then_reported(
  client, model, jobs, work, monkeypatch
):
  tried = []
  load = files.load

  def fails(path, *arguments):
    if path == jobs[2].image:
      tried.append(distributed.get_worker().address)
      raise OSError('the disk is gone')
    return load(path, *arguments)

  # Read by a thread that knows no worker.
  monkeypatch.setattr(batch, 'overlapped', _plain)
  monkeypatch.setattr(files, 'load', fails)
  works = work('out')
  outcomes = list(segment.segment_files(client, model, jobs, works))
  assert len(outcomes) == len(jobs)
  failed = [o.record for o in outcomes if o.record.status == 'failed']
  assert [record.reason for record in failed] == ['the disk is gone']
  assert len(set(tried)) == len(tried) == 2
  assert batch.left_to_do(jobs, works.out, works.common) == ([jobs[2]], 1)


def _plain(jobs, read, compute, write):
  """As `overlapped`, in this thread."""
  for job in jobs:
    try:
      result = write(job, compute(read(job)))
    except OSError as fault:
      result = fault
    yield job, result, 0.0


def test_few_tasks_are_under_way_at_a_time(client, model, jobs, work):
  most, submit = [], client.submit

  class Counting:
    """The client, noting how many tasks it holds."""

    scheduler_info = client.scheduler_info

    def submit(self, *arguments, **options):
      future = submit(*arguments, **options)
      most.append(len(client.futures))
      return future

  outcomes = segment.segment_files(Counting(), model, jobs, work('out'))
  assert len(list(outcomes)) == len(most) == len(jobs)
  assert max(most) <= 2 * 2 + 1


def test_a_worker_that_finds_another_model_says_so(
  client, model, jobs, work, monkeypatch
):
  other = Model(model.variables, {}, model.config)
  monkeypatch.setattr(segment, 'load_model', lambda folder: other)
  outcomes = list(segment.segment_files(client, model, jobs[:1], work('out')))
  assert 'run: a worker finds another model there' in outcomes[0].record.reason


def test_a_lost_scheduler_is_an_error_of_its_own():
  class Gone:
    def result(self):
      raise distributed.comm.CommClosedError('gone')

  with pytest.raises(ClusterError, match='the same command goes on'):
    segment._result(Gone())
