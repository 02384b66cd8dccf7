"""The network that ours is timed against computes what ours does."""

import dataclasses

import jax
import numpy as np
import pytest

from cellseg_jax.model import fcn

torch = pytest.importorskip('torch', reason='needs PyTorch ([peers])')

from benchmarks import networks, torch_network  # noqa: E402


@pytest.mark.parametrize('head', ['transposed', 'skips'])
def test_pytorch_and_ours_agree(head):
  config = networks.configuration(head).model
  config = dataclasses.replace(config, width=0.25)
  variables = fcn.init(jax.random.key(0), config, 1)
  random = np.random.default_rng(0)
  # Scales, shifts and moments that matter.
  variables = jax.tree.map(
    lambda v: v + 0.1 * np.abs(random.standard_normal(v.shape, np.float32)),
    variables,
  )
  network = torch_network.FCN(config).eval()
  torch_network.load(network, variables)
  count = sum(p.numel() for p in network.parameters())
  assert count == sum(p.size for p in jax.tree.leaves(variables['params']))
  images = networks.pixels(2, 96)
  with torch.inference_mode():
    theirs = network(torch.from_numpy(images.transpose(0, 3, 1, 2)))
  ours = np.asarray(
    jax.jit(fcn.apply, static_argnums=0)(config, variables, images)
  )
  np.testing.assert_allclose(
    theirs.numpy().transpose(0, 2, 3, 1),
    ours,
    rtol=1e-4,
    atol=1e-4 * np.abs(ours).max(),
  )
