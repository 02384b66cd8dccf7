"""Several models as one: the mean of their maps."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from tiny_networks import use_a_line
from tiny_sets import cells

from cellseg_jax.config import Config
from cellseg_jax.inference import predict as predict_lib
from cellseg_jax.inference.ensemble import ensemble, EnsembleError
from cellseg_jax.inference.predict import Model, predict, segment
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
  assert segment(together, image).max() > 0


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
