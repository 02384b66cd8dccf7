"""Several models as one: the mean of their maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_networks import use_a_line
from tiny_sets import cells

from cellseg_jax.config import Config
from cellseg_jax.inference import predict as predict_lib
from cellseg_jax.inference.ensemble import (
  ensemble,
  EnsembleError,
  predict_with_disagreement,
)
from cellseg_jax.inference.predict import Model, predict
from cellseg_jax.serialization import replace


@pytest.fixture(autouse=True)
def _line(monkeypatch):
  use_a_line(monkeypatch)


def line(slope, threshold=0.5, **parts):
  variables = {
    'params': {'slope': jnp.float32(slope), 'offset': jnp.float32(-0.25)}
  }
  settings = {'threshold': jnp.float32(threshold)}
  return Model(variables, settings, replace(Config(), **parts))


def test_the_maps_are_the_mean_of_the_members():
  models = [line(1.0, 0.2), line(2.5, 0.3), line(4.0, 0.7)]
  image = cells()[0]
  together = ensemble(models)
  assert together.members == 3
  assert float(together.settings['threshold']) == pytest.approx(0.4)
  expected = np.mean([predict(model, image) for model in models], axis=0)
  np.testing.assert_allclose(predict(together, image), expected, atol=1e-6)


@pytest.mark.parametrize('turns', [False, True])
def test_the_disagreement_is_the_deviation_of_the_members(turns):
  parts = {'decoding': {'turns': turns}}
  models = [line(slope, **parts) for slope in (1.0, 2.5, 4.0)]
  image = cells()[0]
  mean, disagreement = predict_with_disagreement(ensemble(models), image)
  members = [predict(model, image) for model in models]
  for found, expected in (
    (mean, np.mean(members, axis=0)),
    (disagreement, np.std(members, axis=0)),
  ):
    assert set(found) == {'foreground'}
    np.testing.assert_allclose(found['foreground'], expected, atol=1e-6)
  assert disagreement['foreground'].max() > 0.05
  # And in one program for all members, as on other backends.
  monkey = pytest.MonkeyPatch()
  with monkey.context() as patch:
    patch.setattr(
      jax.lax,
      'platform_dependent',
      lambda *arguments, default, **_: default(*arguments),
    )
    at_once = predict_with_disagreement.__wrapped__(ensemble(models), image)[1]
  np.testing.assert_allclose(
    at_once['foreground'], disagreement['foreground'], atol=1e-6
  )


def test_a_single_model_agrees_with_itself():
  image = cells()[0]
  mean, disagreement = predict_with_disagreement(line(2.0), image)
  np.testing.assert_allclose(
    mean['foreground'], predict(line(2.0), image), atol=1e-6
  )
  assert (disagreement['foreground'] == 0).all()


def test_models_of_several_runs_stack_for_vmap():
  models = [line(1.0), line(2.5, training={'seed': 3}, data={'path': 'b'})]
  stacked = jax.tree.map(lambda *leaves: jnp.stack(leaves), *models)
  image = cells()[0]
  found = jax.vmap(predict, (0, None))(stacked, image)
  for one, model in zip(found, models, strict=True):
    np.testing.assert_allclose(one, predict(model, image), atol=1e-6)
  with pytest.raises(ValueError, match='_Static'):
    jax.tree.map(jnp.add, models[0], line(1.0, data={'resample': 0.5}))


def test_one_program_for_all_gives_the_same(monkeypatch):
  together = ensemble([line(1.0), line(3.0)])
  image = cells()[0]
  # Not the compiled function, which would not be traced again.
  predict_maps = predict_lib.predict_maps.__wrapped__
  one_after_another = predict_maps(together, image)['foreground']
  # What other backends run: `default`.
  traced = []
  monkeypatch.setattr(
    jax.lax,
    'platform_dependent',
    lambda *arguments, default, **_: traced.append(1) or default(*arguments),
  )
  at_once = predict_maps(together, image)['foreground']
  assert traced
  np.testing.assert_allclose(at_once, one_after_another, atol=1e-6)


def test_it_stays_pure():
  together = ensemble([line(1.0), line(3.0)])
  stack = np.stack([cells(0)[0], cells(1)[0]])
  np.testing.assert_allclose(
    jax.vmap(lambda image: predict(together, image))(stack),
    predict(together, stack),
    atol=1e-6,
  )
  gradient = jax.grad(lambda x: predict(together, x)[5, 5])(stack[0] * 1.0)
  assert gradient.shape == stack[0].shape


def test_one_member_is_itself():
  model = line(2.0)
  assert ensemble([model]) is model


def test_runs_of_other_seeds_and_folders_go_together():
  other = line(1.0, training={'seed': 1}, data={'path': 'b'})
  assert ensemble([line(1.0), other]).members == 2


@pytest.mark.parametrize(
  ('models', 'message'),
  [
    ([], 'at least one model'),
    (
      [line(1.0), line(1.0, data={'resample': 0.5})],
      r'config.data.resample \(1.0 and 0.5\)',
    ),
    (
      [line(1.0), line(1.0, model={'width': 0.5})],
      r'config.model.width \(1.0 and 0.5\)',
    ),
  ],
)
def test_what_does_not_fit_is_refused(models, message):
  with pytest.raises(EnsembleError, match=message):
    ensemble(models)


def test_ensembles_are_not_nested():
  inner = ensemble([line(1.0), line(2.0)])
  with pytest.raises(EnsembleError, match='single model'):
    ensemble([inner, line(1.0)])
