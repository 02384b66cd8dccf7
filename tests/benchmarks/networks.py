"""The network's forward pass and training step, in ours and others' hands.

Every function makes, in the process that is timed, a call without arguments
(see `side_by_side`). Libraries are imported there alone.
"""

from collections.abc import Callable, Sequence
import dataclasses
import functools
import os
import pathlib
import tempfile
from typing import Any, TYPE_CHECKING

import numpy as np

from cellseg_jax import experiments
from cellseg_jax.config import Config

if TYPE_CHECKING:
  from cellseg_jax.datasets.labelled_image import LabelledImage

Call = Callable[[], object]


def configuration(head: str) -> Config:
  """The full-width network with the case study's head, or with ours."""
  config = experiments.case_study()
  if head == 'skips':
    cells = experiments.cells()
    model = dataclasses.replace(cells.model, width=1.0)
    config = dataclasses.replace(cells, model=model)
  return config


def pixels(batch: int, side: int) -> np.ndarray:
  """Normalised pixels (B, H, W, 1)."""
  shape = (batch, side, side, 1)
  return np.random.default_rng(0).random(shape, np.float32)


def ours_forward(head: str, batch: int, side: int) -> Call:
  """Our network, as `predict` runs it."""
  import jax

  from cellseg_jax.cli import process
  from cellseg_jax.model import fcn

  process.keep_freed_blocks()
  config = configuration(head)
  variables = fcn.init(jax.random.key(0), config.model, 1)
  forward = jax.jit(functools.partial(fcn.apply, config.model))
  images = jax.device_put(pixels(batch, side))
  return lambda: forward(variables, images).block_until_ready()


def operations(head: str, batch: int, side: int) -> float:
  """Floating-point operations of the usual form's forward pass, by XLA."""
  import jax

  from benchmarks.flax_network import FCN

  network = FCN(configuration(head).model)
  images = jax.ShapeDtypeStruct((batch, side, side, 1), np.float32)
  variables = jax.eval_shape(network.init, jax.random.key(0), images)
  lowered = jax.jit(network.apply).lower(variables, images)
  return lowered.cost_analysis()['flops']


def flax_forward(head: str, batch: int, side: int) -> Call:
  """The same network as usually written in Flax."""
  import jax

  from benchmarks.flax_network import FCN

  network = FCN(configuration(head).model)
  images = jax.device_put(pixels(batch, side))
  variables = network.init(jax.random.key(0), images[:1, :32, :32])
  forward = jax.jit(network.apply)
  return lambda: forward(variables, images).block_until_ready()


def torch_forward(head: str, batch: int, side: int, compiled: bool) -> Call:
  """PyTorch, channels last, without gradients."""
  import torch

  from benchmarks.torch_network import FCN

  network = FCN(configuration(head).model).eval()
  network, images = _on_torchs_device(network, pixels(batch, side))
  if compiled:
    network = torch.compile(network)

  def call() -> None:
    with torch.inference_mode(), _half_precision_on_gpus(images):
      network(images)
    _wait_for(images)

  return call


def _on_torchs_device(network, images: np.ndarray):
  """Moves network and images, channels last, to a GPU if there is one."""
  import torch

  device = 'cuda' if torch.cuda.is_available() else 'cpu'
  form = torch.channels_last
  images = torch.from_numpy(images).permute(0, 3, 1, 2).to(device)
  return (
    network.to(device=device, memory_format=form),
    images.contiguous(memory_format=form),
  )


def _half_precision_on_gpus(images):
  """As ours: bfloat16 on GPUs, float32 on CPUs."""
  import torch

  return torch.autocast(
    images.device.type, torch.bfloat16, enabled=images.is_cuda
  )


def _wait_for(images) -> None:
  import torch

  if images.is_cuda:
    torch.cuda.synchronize()


def onnx_forward(head: str, batch: int, side: int) -> Call:
  """Our network, exported, in ONNX Runtime."""
  import jax
  import onnxruntime

  from cellseg_jax.export import onnx_graph
  from cellseg_jax.inference.predict import Model
  from cellseg_jax.model import fcn

  config = configuration(head)
  data = dataclasses.replace(config.data, resample=1.0)
  config = dataclasses.replace(config, data=data)
  variables = fcn.init(jax.random.key(0), config.model, 1)
  graph = onnx_graph.build(Model(variables, {}, config))
  with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder, 'network.onnx')
    path.write_bytes(graph.SerializeToString())
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = len(os.sched_getaffinity(0))
    session = onnxruntime.InferenceSession(
      str(path), options, providers=['CPUExecutionProvider']
    )
  images = np.ascontiguousarray(pixels(batch, side).transpose(0, 3, 1, 2))
  return lambda: session.run(None, {'image': images})


def ours_step(head: str, batch: int, side: int, steps: int = 1) -> Call:
  """Our training steps, crops drawn and augmented from seven images."""
  return step_on(colonies(), configuration(head), batch, side, steps)


def colonies() -> 'list[LabelledImage]':
  """Seven simulated images."""
  from cellseg_jax.datasets.labelled_image import LabelledImage
  from cellseg_jax.datasets.simulated import simulate_colony

  images = []
  for seed in range(7):
    image, labels = simulate_colony(seed)
    images.append(LabelledImage(f'{seed}', image, labels, labels >= 0))
  return images


def step_on(
  images: 'Sequence[LabelledImage]',
  config: Config,
  batch: int,
  side: int,
  steps: int = 1,
) -> Call:
  """Our training steps, so many a call, as the training loop makes them."""
  from cellseg_jax.training import parallel

  step, state, pool = step_program(images, config, batch, side)
  advance = parallel.parallel_steps(step, steps)
  pool = parallel.replicate(pool)
  state = parallel.replicate(state)

  def call() -> object:
    nonlocal state
    state, losses = advance(state, pool)
    return losses.block_until_ready()

  return call


def step_program(
  images: 'Sequence[LabelledImage]', config: Config, batch: int, side: int
) -> tuple[Callable[..., object], Any, Any]:
  """Returns our training step, its first state and the training images."""
  from cellseg_jax.cli import process
  from cellseg_jax.datasets.pool import build_pool
  from cellseg_jax.training import optimizer as optimizer_lib
  from cellseg_jax.training.step import init_state, train_step

  process.keep_freed_blocks()
  training = dataclasses.replace(
    config.training, batch_size=batch, crop_size=side
  )
  config = dataclasses.replace(config, training=training)
  optimizer = optimizer_lib.make_optimizer(config.optimizer, 1000)
  step = functools.partial(
    train_step, config=config, optimizer=optimizer, batch_size=batch
  )
  return step, init_state(config, optimizer), build_pool(images, config)


def flax_step(head: str, batch: int, side: int) -> Call:
  """The usual Flax form's forward, backward and RMSprop; no augmentation."""
  import jax
  import jax.numpy as jnp
  import optax

  from benchmarks.flax_network import FCN
  from cellseg_jax.cli import process

  process.keep_freed_blocks()
  config = configuration(head)
  network = FCN(config.model)
  images = jax.device_put(pixels(batch, side))
  variables = network.init(jax.random.key(0), images[:1, :32, :32])
  optimizer = optax.rmsprop(
    config.optimizer.learning_rate, decay=0.99, momentum=0.9
  )
  targets = jnp.full(
    jax.eval_shape(network.apply, variables, images).shape, 0.5
  )

  def loss(params, batch_stats):
    logits, updated = network.apply(
      {'params': params, 'batch_stats': batch_stats},
      images,
      train=True,
      mutable=['batch_stats'],
    )
    return optax.sigmoid_binary_cross_entropy(logits, targets).mean(), updated

  @functools.partial(jax.jit, donate_argnums=0)
  def step(state):
    params, batch_stats, memory = state
    (value, updated), gradient = jax.value_and_grad(loss, has_aux=True)(
      params, batch_stats
    )
    updates, memory = optimizer.update(gradient, memory)
    params = optax.apply_updates(params, updates)
    return (params, updated['batch_stats'], memory), value

  params = variables['params']
  state = (params, variables['batch_stats'], optimizer.init(params))

  def call() -> object:
    nonlocal state
    state, value = step(state)
    return value.block_until_ready()

  return call


def torch_step(
  head: str, batch: int, side: int, compiled: bool, steps: int = 1
) -> Call:
  """PyTorch's forward, backward and RMSprop; no augmentation."""
  import torch
  from torch.nn import functional as F

  from benchmarks.torch_network import FCN

  config = configuration(head)
  network = FCN(config.model).train()
  network, images = _on_torchs_device(network, pixels(batch, side))
  with torch.inference_mode():
    shape = network(images).shape
  targets = torch.rand(shape, device=images.device)
  weights = torch.ones_like(targets)
  optimizer = torch.optim.RMSprop(
    network.parameters(), config.optimizer.learning_rate, 0.99, momentum=0.9
  )
  run = torch.compile(network) if compiled else network

  def step() -> None:
    optimizer.zero_grad()
    with _half_precision_on_gpus(images):
      logits = run(images)
    loss = F.binary_cross_entropy_with_logits(
      logits.float(), targets, weights, reduction='sum'
    )
    (loss / weights.sum()).backward()
    optimizer.step()

  def call() -> None:
    for _ in range(steps):
      step()
    _wait_for(images)

  return call


def matrix_product(rows: int, inner: int, columns: int) -> Call:
  """One float32 matrix product in JAX: the arithmetic limit."""
  import jax
  import jax.numpy as jnp

  a, b = jnp.ones((rows, inner)), jnp.ones((inner, columns))
  product = jax.jit(jnp.matmul)
  return lambda: product(a, b).block_until_ready()
