"""A cluster gives what one process gives; it holds few tasks at a time.

The workers here are threads of this process, so that tests can reach into them;
`test_workers.py` has real ones.
"""

import json
import types

import distributed
import numpy as np
import pytest
import quick
import tifffile
from tiny_networks import use_a_line
from tiny_sets import cells
import zarr

from cellseg_jax.cluster import large, segment, tasks, work
from cellseg_jax.cluster.connect import ClusterError
from cellseg_jax.config import Config
from cellseg_jax.inference import batch, files, predict, predict_large, records
from cellseg_jax.inference.filters import Filters
from cellseg_jax.inference.large import segment_large
from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace

MAPS = quick.jit(predict.predict_maps.__wrapped__)
TILE_MAPS = quick.jit(predict_large._tile_maps.__wrapped__)
SMALL = {'TILE': 96, 'OVERLAP': 32, 'BLOCK': 40}


def line_model(**decoding):
  config = replace(Config(), decoding={'min_area': 5, 'rim': 1} | decoding)
  params = {'slope': np.float32(8), 'offset': np.float32(-4)}
  return Model({'params': params}, {'threshold': np.float32(0.5)}, config)


@pytest.fixture
def model(monkeypatch):
  """A model that takes bright pixels for cells, and is found in any folder."""
  use_a_line(monkeypatch)
  monkeypatch.setattr(predict, 'predict_maps', MAPS)
  monkeypatch.setattr(predict_large, '_tile_maps', TILE_MAPS)
  model = line_model()
  monkeypatch.setattr(work, 'load_model', lambda folder: model)
  monkeypatch.setattr(work, '_MODELS', {})
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
def cluster(client):
  return tasks.Cluster(client)


@pytest.fixture
def jobs(tmp_path):
  """Nine images."""
  jobs = []
  for seed in range(9):
    jobs.append(batch.Job(tmp_path / f'{seed}.tif', f'{seed}'))
    tifffile.imwrite(jobs[-1].image, cells(seed)[0])
  return jobs


@pytest.fixture
def works(tmp_path, model):
  """Makes a folder of outputs, and what goes with it."""

  def make(name, model=model, **options):
    (tmp_path / name).mkdir()
    options = files.Options(**options)
    common = batch.digest(model, options)
    return work.Work(('run',), tmp_path / name, options, common)

  return make


def here(model, jobs, of):
  found = batch.segment_files(model, jobs, of.out, of.options, of.common)
  return list(found)


def on_cluster(cluster, model, jobs, of):
  return list(segment.segment_files(cluster, model, jobs, of))


def merged(of):
  """Log, without times, and table of a run."""
  records.merge(of.out)
  lines = (of.out / records.LOG).read_text().splitlines()
  log = [json.loads(line) | {'seconds': 0} for line in lines]
  return log, (of.out / 'cells.csv').read_text()


def labels_of(of, name):
  labels = tifffile.imread(of.out / f'{name}.tif')
  assert labels.max() > 1
  return labels


def test_files_have_the_labels_and_records_of_one_process(
  cluster, model, jobs, works
):
  one, other = works('one'), works('other')
  here(model, jobs, one)
  outcomes = on_cluster(cluster, model, jobs, other)
  assert sorted(o.job.name for o in outcomes) == [j.name for j in jobs]
  for job in jobs:
    np.testing.assert_array_equal(
      labels_of(one, job.name), labels_of(other, job.name)
    )
  assert merged(one) == merged(other)
  assert batch.left_to_do(jobs, other.out, other.common) == ([], 0)


@pytest.fixture
def large_ones(monkeypatch, tmp_path):
  """All images are large now, tiles and blocks small; a movie, as Zarr."""
  monkeypatch.setattr(files, 'WHOLE', 0)
  monkeypatch.setattr(files, 'HELD', 0)
  monkeypatch.setattr(predict_large, '_BLOCK', 64)
  for name, value in SMALL.items():
    monkeypatch.setattr(large, name, value)
  movie = np.stack([cells(seed, (150, 190))[0] for seed in range(2)])
  # A ring: its hole lies across several blocks.
  movie[:, 30:110, 60:66] = movie[:, 30:110, 120:126] = 120
  movie[:, 30:36, 60:126] = movie[:, 104:110, 60:126] = 120
  path = tmp_path / 'movie.zarr'
  zarr.create_array(path, data=movie, chunks=(1, 64, 64))
  return movie, batch.Job(path, 'movie')


@pytest.mark.parametrize('turns', [False, True])
def test_blocks_have_the_labels_and_tables_of_one_process(
  cluster, monkeypatch, works, large_ones, turns
):
  model = line_model(turns=turns)
  monkeypatch.setattr(work, 'load_model', lambda folder: model)
  _, job = large_ones
  options = {'axes': 'TYX', 'filters': Filters(drop_border=True, max_area=500)}
  one, other = (works(name, model, **options) for name in ('one', 'other'))
  here(model, [job], one)
  done = []
  cluster.watch = lambda number, total: done.append((number, total))
  (outcome,) = on_cluster(cluster, model, [job], other)
  assert outcome.record.status == 'ok', outcome.record.reason
  labels = labels_of(other, 'movie')
  np.testing.assert_array_equal(labels, labels_of(one, 'movie'))
  assert merged(one)[0] == merged(other)[0]
  assert merged(one)[1].count('\n') == merged(other)[1].count('\n') > 60
  # 4 x 5 blocks are looked at, their holes too, and written, in each frame.
  assert done.count((20, 20)) == 6
  assert sorted(path.name for path in other.out.iterdir()) == [
    '.cells',
    '.segment',
    'cells.csv',
    'cells.parquet',
    'movie.tif',
    'segment.jsonl',
  ]


def test_blocks_have_exactly_the_numbers_of_the_tiled_path(
  cluster, model, works, large_ones
):
  movie, job = large_ones
  of = works('out', axes='TYX')
  (outcome,) = on_cluster(cluster, model, [job], of)
  found = labels_of(of, 'movie')
  for frame, labels, confidence in zip(
    movie, found, outcome.confidence, strict=True
  ):
    expected, certainty = segment_large(
      model, frame, tile=96, overlap=32, block=40
    )
    np.testing.assert_array_equal(labels, expected)
    np.testing.assert_array_equal(list(confidence.values()), certainty)


def test_many_files_that_are_not_huge_are_a_task_each(
  cluster, model, jobs, works, monkeypatch
):
  monkeypatch.setattr(files, 'WHOLE', 0)  # Each would be seen in tiles.
  in_blocks = []
  monkeypatch.setattr(large, 'stages', lambda *a: in_blocks.append(a))
  on_cluster(cluster, model, jobs, works('out'))
  assert not in_blocks
  assert segment._is_for_blocks(model, jobs[0], files.Options(), True)
  monkeypatch.setattr(files, 'HELD', 1000)
  assert segment._is_for_blocks(model, jobs[0], files.Options(), False)
  monkeypatch.setattr(files, 'WHOLE', 2**22)
  assert not segment._is_for_blocks(model, jobs[0], files.Options(), True)


def test_scratch_of_a_run_that_was_killed_goes(
  cluster, model, works, large_ones
):
  _, job = large_ones
  of = works('out', axes='TYX')
  left = of.out / '.scratch' / 'movie' / '0'
  left.mkdir(parents=True)
  (left / '0.npy').write_bytes(b'half')
  (outcome,) = on_cluster(cluster, model, [job], of)
  assert outcome.record.status == 'ok'
  assert not (of.out / '.scratch').exists()


def test_a_large_file_that_fails_is_reported_and_leaves_nothing(
  cluster, model, jobs, works, monkeypatch, large_ones
):
  movie, job = large_ones
  broken = movie.astype(np.float32)
  broken[1, 100, 140] = np.nan
  zarr.create_array(job.image, data=broken, overwrite=True)
  of = works('out', axes='TYX')
  (outcome,) = on_cluster(cluster, model, [job], of)
  assert 'row 100, column 140' in outcome.record.reason
  assert sorted(path.name for path in of.out.iterdir()) == [
    '.segment',
    'segment.jsonl',
  ]


def test_a_file_that_fails_is_tried_on_another_worker_and_then_reported(
  cluster, model, jobs, works, monkeypatch
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
  of = works('out')
  outcomes = on_cluster(cluster, model, jobs, of)
  assert len(outcomes) == len(jobs)
  failed = [o.record for o in outcomes if o.record.status == 'failed']
  assert [record.reason for record in failed] == ['the disk is gone']
  assert len(set(tried)) == len(tried) == 2
  assert batch.left_to_do(jobs, of.out, of.common) == ([jobs[2]], 1)
  lines = (of.out / records.LOG).read_text().splitlines()
  assert len(lines) == len(jobs)


def _plain(jobs, read, compute, write):
  """As `overlapped`, in this thread."""
  for job in jobs:
    try:
      result = write(job, compute(read(job)))
    except OSError as fault:
      result = fault
    yield job, result, 0.0


FAILED = {}


def fails_at_first(item):
  worker = distributed.get_worker().address
  if item % 3 == 0 and item not in FAILED:
    FAILED[item] = worker
    raise OSError('not now')
  return item, worker


def test_blocks_that_fail_once_are_computed_elsewhere_and_come_in_order(
  cluster,
):
  found = list(cluster.each(fails_at_first, range(20)))
  assert [item for item, _ in found] == list(range(20))
  assert FAILED.keys() == set(range(0, 20, 3))
  assert all(FAILED.get(item) != worker for item, worker in found)


def test_a_block_that_fails_twice_is_a_fault(cluster):
  def compute(item):
    raise ValueError(f'{item} is wrong')

  with pytest.raises(ValueError, match='0 is wrong'):
    list(cluster.each(compute, range(20)))


class Counting:
  """A client that notes how many tasks there are."""

  def __init__(self, client):
    self._client, self.most = client, []
    self.scheduler_info, self.gather = client.scheduler_info, client.gather

  def submit(self, *arguments, **options):
    future = self._client.submit(*arguments, **options)
    self.most.append(len(self._client.futures))
    return future

  def map(self, *arguments, **options):
    futures = self._client.map(*arguments, **options)
    self.most += [len(self._client.futures)] * len(futures)
    return futures


@pytest.mark.parametrize('in_order', [True, False])
def test_few_tasks_are_under_way_at_a_time(client, in_order):
  before = len(client.futures)
  counting = Counting(client)
  cluster = tasks.Cluster(counting)
  if in_order:
    found = list(cluster.each(abs, range(-200, 0)))
  else:
    ended = cluster.as_ended(abs, range(-200, 0), lambda value: False)
    found = [attempt.value for _, attempt in ended]
  assert sorted(found) == list(range(1, 201))
  assert len(counting.most) == 201
  # What all have in common, three for each of two threads, and half as many
  # that may just have been fetched.
  assert max(counting.most) <= before + 1 + 2 * 3 + 3


def test_a_model_is_loaded_once(cluster, model, jobs, works, monkeypatch):
  loaded = []

  def load_model(folder):
    loaded.append(folder)
    return model

  monkeypatch.setattr(work, 'load_model', load_model)
  on_cluster(cluster, model, jobs, works('out'))
  assert loaded == ['run']  # Both workers are of one process here.


def test_a_worker_that_finds_another_model_says_so(
  cluster, model, jobs, works, monkeypatch
):
  other = Model(model.variables, {}, model.config)
  monkeypatch.setattr(work, 'load_model', lambda folder: other)
  (outcome,) = on_cluster(cluster, model, jobs[:1], works('out'))
  assert 'run: a worker finds another model there' in outcome.record.reason


class Died:
  """A task over which workers died; together with others, too."""

  def result(self):
    last = types.SimpleNamespace(address='tcp://10.0.0.7:4001')
    raise distributed.KilledWorker('task-1', last, 4)

  def gather(self, futures):
    self.result()


def test_workers_that_die_over_a_block_fail_that_block_alone(client):
  other = client.submit(tasks._attempt, abs, -2, pure=False)
  cluster = tasks.Cluster(Died())
  one, died = cluster._results([other, Died()])
  assert one.value == 2
  assert 'died, as they do when memory is short' in str(died.fault)


def test_workers_that_die_over_a_file_are_its_fault(model, jobs, works):
  attempt = tasks._result(Died())
  outcome = batch.failed(jobs[0], works('out').common, attempt.fault)
  assert 'died, as they do when memory is short' in outcome.record.reason


def test_a_lost_scheduler_is_an_error_of_its_own():
  class Gone:
    def result(self):
      raise distributed.comm.CommClosedError('gone')

  with pytest.raises(ClusterError, match='the same command goes on'):
    tasks._result(Gone())
