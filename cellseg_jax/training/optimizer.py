"""The optimiser: RMSprop with linear warm-up and cosine annealing."""

import optax

from cellseg_jax.config import OptimizerConfig


def learning_rate_schedule(
  config: OptimizerConfig, steps: int
) -> optax.Schedule:
  """Returns the learning rate as a function of the step.

  It rises linearly from 0 over the warm-up, then falls along half a cosine
  (Loshchilov & Hutter, ICLR 2017) to `final_fraction` of the peak.

  Args:
    config: Peak learning rate, warm-up fraction and final fraction.
    steps: Total number of updates.
  """
  peak = config.learning_rate
  rising = round(config.warmup_fraction * steps)
  warmup = optax.linear_schedule(0.0, peak, max(rising, 1))
  cosine = optax.cosine_decay_schedule(
    peak, max(steps - rising, 1), config.final_fraction
  )
  return optax.join_schedules([warmup, cosine], [rising])


def make_optimizer(
  config: OptimizerConfig, steps: int
) -> optax.GradientTransformation:
  """Builds the optimiser.

  It chains gradient clipping, RMSprop, momentum, weight decay and the learning
  rate schedule; clipping, momentum and weight decay only if they are on.

  Args:
    config: The optimiser's constants.
    steps: Total number of updates, for the schedule.

  Returns:
    An Optax gradient transformation.
  """
  chain = []
  if config.clip_norm:
    chain.append(optax.clip_by_global_norm(config.clip_norm))
  scale = optax.scale_by_stddev if config.centered else optax.scale_by_rms
  chain.append(scale(config.decay, config.eps, config.initial_scale))
  if config.momentum:
    chain.append(optax.trace(config.momentum, config.nesterov))
  if config.weight_decay:
    chain.append(optax.add_decayed_weights(config.weight_decay))
  schedule = learning_rate_schedule(config, steps)
  chain.append(optax.scale_by_learning_rate(schedule))
  return optax.chain(*chain)
