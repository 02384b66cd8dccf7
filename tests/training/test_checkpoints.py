"""Checkpoints: what goes in comes out, and which are kept."""

import errno
import resource
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_networks import keep_few_blocks, random_variables

from cellseg_jax.config import Config
from cellseg_jax.inference.load import load_model
from cellseg_jax.serialization import replace
from cellseg_jax.training import manifest
from cellseg_jax.training.checkpoints import CheckpointError, Checkpoints
from cellseg_jax.training.optimizer import make_optimizer
from cellseg_jax.training.step import TrainState, variables_of

OPTIMIZER = make_optimizer(Config().optimizer, 100)


def state_at(step, size=5, batch_stats=True):
  """A small training state, unlike that of any other step."""
  rng = np.random.default_rng(step)
  params = {'layer': {'kernel': jnp.float32(rng.normal(size=(size, 2)))}}
  opt_state = jax.tree.map(
    lambda x: jnp.asarray(rng.integers(1, 9, x.shape), x.dtype),
    OPTIMIZER.init(params),
  )
  statistics = {'layer': {'mean': jnp.float32(rng.normal(size=2))}}
  return TrainState(
    step=jnp.int32(step),
    skipped=jnp.int32(step % 3),
    skipped_in_a_row=jnp.int32(step % 2),
    params=params,
    batch_stats=statistics if batch_stats else {},
    opt_state=opt_state,
  )


def metrics(score, **others):
  return {'roc_auc': score, 'f1': 1 - score, 'threshold': 0.25} | others


def equal(one, other):
  assert jax.tree.structure(one) == jax.tree.structure(other)
  jax.tree.map(np.testing.assert_array_equal, one, other)
  types = [[x.dtype for x in jax.tree.leaves(tree)] for tree in (one, other)]
  assert types[0] == types[1]


def steps(folder):
  return {int(p.name) for p in folder.iterdir() if p.name.isdigit()}


@pytest.mark.parametrize('batch_stats', [True, False])
def test_a_state_comes_back_bit_for_bit(tmp_path, batch_stats):
  state = state_at(3, batch_stats=batch_stats)
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    assert checkpoints.latest_step() is None
    assert checkpoints.best_step() is None
    checkpoints.save(state)
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    assert checkpoints.latest_step() == 3
    like = state_at(0, batch_stats=batch_stats)
    equal(checkpoints.restore(3, like), state)


def test_the_last_two_and_the_best_are_kept(tmp_path):
  scores = {10: 0.5, 20: 0.9, 30: 0.7}
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    for step in range(5, 36, 5):
      score = scores.get(step)
      checkpoints.save(
        state_at(step), None if score is None else metrics(score)
      )
  assert steps(tmp_path) == {20, 30, 35}
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    assert checkpoints.latest_step() == 35
    assert checkpoints.best_step() == 20
    assert checkpoints.metrics(20) == metrics(0.9)
    assert checkpoints.metrics(35) == {}
    for step in (20, 30, 35):
      equal(checkpoints.restore(step, state_at(0)), state_at(step))


def test_the_named_metric_decides(tmp_path):
  with Checkpoints(tmp_path, 'f1') as checkpoints:
    for step, score in ((1, 0.9), (2, 0.2), (3, 0.5), (4, 0.6)):
      checkpoints.save(state_at(step), metrics(score))
    assert checkpoints.best_step() == 2
  assert steps(tmp_path) == {2, 3, 4}


def test_of_equals_the_later_is_best_and_kept(tmp_path):
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    for step in (1, 2, 3):
      assert checkpoints.is_best(metrics(0.5))
      checkpoints.save(state_at(step), metrics(0.5))
    for step in (4, 5):
      checkpoints.save(state_at(step), metrics(0.4))
    assert checkpoints.best_step() == 3
  assert steps(tmp_path) == {3, 4, 5}


def test_the_best_stays_the_best_of_a_run_that_goes_on(tmp_path):
  for step, score in ((1, 0.9), (2, 0.4), (3, 0.5), (4, 0.6)):
    with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
      assert checkpoints.is_best(metrics(score)) == (step == 1)
      checkpoints.save(state_at(step), metrics(score))
  assert steps(tmp_path) == {1, 3, 4}


def test_without_metrics_the_last_is_best(tmp_path):
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    for step in (1, 2, 3):
      checkpoints.save(state_at(step))
    assert checkpoints.best_step() == 3
  assert steps(tmp_path) == {2, 3}


def test_metrics_are_best_when_they_beat_all_before(tmp_path):
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    assert checkpoints.is_best(metrics(0.0))
    checkpoints.save(state_at(1))
    assert checkpoints.is_best(metrics(0.0))
    checkpoints.save(state_at(2), metrics(0.6))
    checkpoints.save(state_at(3), metrics(0.4))
    assert not checkpoints.is_best(metrics(0.5))
    assert checkpoints.is_best(metrics(0.7))


def test_a_save_holds_the_state_of_its_moment(tmp_path):
  """The next step is free to overwrite the state's memory."""
  host = np.full((200, 200), 1.0, np.float32)
  state = state_at(1).replace(params={'host': host, 'given': jnp.ones((9, 9))})
  overwrite = jax.jit(lambda x: x * 0 - 7, donate_argnums=0)
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    checkpoints.save(state)
    host[:] = -7
    overwrite(state.params['given'])
    assert state.params['given'].is_deleted()
  like = state.replace(
    params={'host': np.zeros_like(host), 'given': np.zeros((9, 9), np.float32)}
  )
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    found = checkpoints.restore(1, like).params
  assert (found['host'] == 1).all()
  assert (found['given'] == 1).all()


def test_a_state_of_other_shapes_is_refused(tmp_path):
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    checkpoints.save(state_at(3))
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    for like in (state_at(3, size=6), state_at(3, batch_stats=False)):
      with pytest.raises(CheckpointError, match='checkpoint of step 3') as e:
        checkpoints.restore(3, like)
      assert str(tmp_path) in str(e.value)


def test_the_network_alone_comes_back(tmp_path, monkeypatch):
  keep_few_blocks(monkeypatch)
  # A width of its own: compiled functions remember the blocks of this test.
  config = replace(Config(), model={'width': 0.06}, data={'channels': 2})
  variables = random_variables(config.model, 2)
  state = state_at(4).replace(
    params=variables['params'], batch_stats=variables['batch_stats']
  )
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    checkpoints.save(state)
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    equal(checkpoints.restore_variables(4, config), variables)
    for part in (
      {'data': {'channels': 1}},
      {'model': {'head_kernel': 32}},
      {'model': {'normalization': 'none'}},
    ):
      with pytest.raises(CheckpointError, match='checkpoint of step 4'):
        checkpoints.restore_variables(4, replace(config, **part))


def test_a_folder_without_a_model_is_named_and_not_created(tmp_path):
  folder = tmp_path / 'absent'
  with pytest.raises(FileNotFoundError, match='absent: no trained model here'):
    load_model(folder)
  assert not folder.exists()


def test_an_average_is_what_is_used_and_all_comes_back(tmp_path):
  average = variables_of(state_at(8))
  state = state_at(3).replace(average=average)
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    checkpoints.save(state)
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    like = state_at(0).replace(average=variables_of(state_at(0)))
    equal(checkpoints.restore(3, like), state)
    with pytest.raises(CheckpointError):
      checkpoints.restore(3, state_at(0))


def saved(folder, *numbers):
  with Checkpoints(folder, 'roc_auc') as checkpoints:
    for step in numbers:
      checkpoints.save(state_at(step), metrics(0.5))


def files_of(folder):
  return sorted(path for path in folder.rglob('*') if path.is_file())


def test_a_flipped_bit_in_any_file_is_found_and_the_one_before_used(tmp_path):
  saved(tmp_path / 'whole', 1, 2)
  whole = tmp_path / 'whole'
  names = [path.relative_to(whole) for path in files_of(whole / '2')]
  assert len(names) > 5
  for number, name in enumerate(names):
    folder = tmp_path / f'{number}' / 'checkpoints'
    shutil.copytree(tmp_path / 'whole', folder)
    damaged = bytearray((folder / name).read_bytes())
    damaged[len(damaged) // 2] ^= 1
    (folder / name).write_bytes(damaged)
    with pytest.raises(CheckpointError, match='cannot be trusted'):
      Checkpoints(folder, 'roc_auc')
    told = []
    with Checkpoints(folder, 'roc_auc', told.append) as checkpoints:
      assert checkpoints.latest_step() == 1
      equal(checkpoints.restore(1, state_at(0)), state_at(1))
      checkpoints.save(state_at(2))
    (said,) = told
    assert 'step 2' in said
    aside = folder.with_name('checkpoints_damaged') / '2'
    assert (aside / name.relative_to('2')).read_bytes() == damaged
    with Checkpoints(folder, 'roc_auc') as checkpoints:
      equal(checkpoints.restore(2, state_at(0)), state_at(2))


@pytest.mark.parametrize('harm', ['cut', 'remove', 'add'])
def test_files_that_are_cut_gone_or_new_are_found(tmp_path, harm):
  saved(tmp_path, 1, 2)
  path = files_of(tmp_path / '2')[-1]
  if harm == 'cut':
    path.write_bytes(path.read_bytes()[:-1])
  elif harm == 'remove':
    path.unlink()
  else:
    path = path.with_name('new')
    path.write_text('new')
  with pytest.raises(CheckpointError, match='cannot be trusted') as error:
    Checkpoints(tmp_path, 'roc_auc')
  assert str(path) in str(error.value)


def test_where_none_is_left_nothing_is_begun_anew(tmp_path):
  saved(tmp_path, 1)
  files_of(tmp_path / '1')[0].write_bytes(b'')
  for _ in range(2):
    with pytest.raises(CheckpointError, match='there is no other'):
      Checkpoints(tmp_path, 'roc_auc', print)
  assert steps(tmp_path) == {1}


def test_what_a_killed_save_left_is_not_a_checkpoint(tmp_path):
  saved(tmp_path, 1)
  partial = tmp_path / '2.orbax-checkpoint-tmp-7'
  partial.mkdir()
  (partial / 'half').write_bytes(b'half')
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    assert checkpoints.latest_step() == 1
  assert partial.exists()  # It may be another process's.
  with Checkpoints(tmp_path, 'roc_auc', print) as checkpoints:
    assert checkpoints.latest_step() == 1
    checkpoints.save(state_at(2))
  assert steps(tmp_path) == {1, 2}
  assert not partial.exists()


def test_a_save_that_fails_keeps_those_before(tmp_path, monkeypatch):
  checkpoints = Checkpoints(tmp_path, 'roc_auc')
  checkpoints.save(state_at(1))

  def full(folder, without=()):
    raise OSError(errno.ENOSPC, 'No space left on device')

  checkpoints.wait()
  monkeypatch.setattr(manifest, 'write', full)
  failing = pytest.raises(CheckpointError, match='No space left on device')
  with failing as error, checkpoints:
    checkpoints.save(state_at(2))
  assert 'step 2 cannot be saved' in str(error.value)
  monkeypatch.undo()
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    assert checkpoints.latest_step() == 1
    equal(checkpoints.restore(1, state_at(0)), state_at(1))


def test_a_file_that_cannot_be_written_is_told_in_a_sentence(tmp_path, caplog):
  checkpoints = Checkpoints(tmp_path, 'roc_auc')
  checkpoints.save(state_at(1))
  checkpoints.wait()
  before = resource.getrlimit(resource.RLIMIT_FSIZE)
  failing = pytest.raises(CheckpointError, match='step 2 cannot be saved')
  try:
    resource.setrlimit(resource.RLIMIT_FSIZE, (2**16, before[1]))
    with failing as error, checkpoints:
      checkpoints.save(state_at(2, size=50_000))
  finally:
    resource.setrlimit(resource.RLIMIT_FSIZE, before)
  assert 'File too large)' in str(error.value)
  assert len(str(error.value)) < 2000
  assert not [record for record in caplog.records if record.exc_info]
  with Checkpoints(tmp_path, 'roc_auc') as checkpoints:
    assert checkpoints.steps() == [1]
