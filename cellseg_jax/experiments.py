"""The recommended configurations, for `experiments/` and `cellseg train`."""

from cellseg_jax.config import (
  AugmentationConfig,
  Config,
  DataConfig,
  ModelConfig,
  OptimizerConfig,
  TargetConfig,
  TrainingConfig,
)


def quickstart() -> Config:
  """Simulated colonies and a narrow network: minutes on a laptop's CPU."""
  return Config(
    data=DataConfig(dataset='simulated_colonies', resample=0.5),
    model=ModelConfig(width=0.5),
    training=TrainingConfig(
      steps=300,
      batch_size=8,
      crop_size=128,
      evaluate_every=100,
      checkpoint_every=50,
    ),
  )


def case_study() -> Config:
  """The 2018 method as published: full-width GoogLeNet, one transposed
  convolution, edge-overweighted pixel loss, RMSprop, cosine annealing.

  Where the study is silent, each choice is stated beside its field.
  """
  return Config(
    data=DataConfig(dataset='labelled_folder', path='.', resample=0.5),
    targets=TargetConfig(gap=1, edge_width=2, edge_weight=5.0),
    augmentation=AugmentationConfig(),
    model=ModelConfig(width=1.0),
    optimizer=OptimizerConfig(learning_rate=1e-3),
    training=TrainingConfig(steps=600, batch_size=4, crop_size=256),
  )


EXPERIMENTS = {'quickstart': quickstart, 'case_study': case_study}
