"""The profile says what a program spends its time on."""

import jax
import jax.numpy as jnp
import pytest

from benchmarks import profile


def test_products_are_found_where_they_are_all_that_is_computed():
  found = profile.shares(jnp.matmul, *[jnp.ones((512, 512))] * 2, calls=2)
  assert sum(found.values()) == pytest.approx(1)
  assert max(found, key=found.get) == 'update: convolutions and products'


def test_parts_of_a_step_are_told_apart():
  def loss(kernel, x):
    return jnp.maximum(x @ kernel, 0).sum()

  kernel, x = jnp.ones((64, 64)), jnp.ones((256, 64))
  text = jax.jit(jax.grad(loss)).lower(kernel, x).compile().as_text()
  kinds = set(profile.classified(text).values())
  assert 'backward: convolutions and products' in kinds
  assert any(kind.startswith('forward: ') for kind in kinds)


def test_small_shares_are_one_row():
  found = {'forward: copies': 0.991, 'crops: copies': 0.009}
  assert profile.table(found).splitlines()[2:] == [
    '| forward: copies | 99 % |',
    '| the rest | 1 % |',
  ]
