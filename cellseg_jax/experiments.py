"""The recommended configurations, for `experiments/` and `cellseg train`."""

import dataclasses

from cellseg_jax.config import (
  AugmentationConfig,
  Config,
  DataConfig,
  DecodingConfig,
  IntensityConfig,
  ModelConfig,
  OptimizerConfig,
  TargetConfig,
  TrainingConfig,
)

# RMSprop as in Google's Inception recipe (momentum 0.9), with a longer memory
# (decay 0.99): over steps 51-100 on seven real images the loss was 0.41,
# against 0.44 with rate 1e-3, decay 0.9 and no momentum. One seed.
RMSPROP = OptimizerConfig(learning_rate=2e-4, decay=0.99, momentum=0.9)

# The same from a large mean square, as TensorFlow 1's RMSprop begins with 1,
# which a short memory forgets within a hundred steps. The first updates are
# small and in proportion to the gradient, where RMSprop's own are its signs,
# those of rounding errors included: so 1 device and 4 agree to 1e-5 over the
# first steps.
STEADY_RMSPROP = dataclasses.replace(
  RMSPROP, learning_rate=5e-4, decay=0.8, initial_scale=1000.0
)


def quickstart() -> Config:
  """Simulated colonies and a narrow network: minutes on a laptop's CPU."""
  return Config(
    data=DataConfig(dataset='simulated_colonies', resample=0.5),
    # One transposed convolution needs more steps than minutes allow to draw
    # nuclei of the size of its stride: after 300 the AUC was 0.975.
    model=ModelConfig(width=0.5, head='skips'),
    optimizer=STEADY_RMSPROP,
    training=TrainingConfig(
      steps=220,
      batch_size=8,
      crop_size=128,
      evaluate_every=110,
      checkpoint_every=50,
    ),
  )


def case_study() -> Config:
  """The 2018 method as published, on a folder of your own images.

  Full-width GoogLeNet, one transposed convolution, edge-overweighted pixel
  loss, random crops with rolls, flips and rotations, RMSprop, annealing. Where
  the study is silent, the choice is stated beside its field.
  """
  return Config(
    data=DataConfig(
      dataset='labelled_folder',
      # The study's nuclei span 40-90 pixels; half resolution brings nuclei of
      # twice that there, and lets the same time see four times the area.
      resample=0.5,
    ),
    # Percentiles: one saturated pixel or dark corner must not set the range.
    intensity=IntensityConfig(low_percentile=1.0, high_percentile=99.8),
    # The study's masks leave a thin gap between neighbours and its edges are
    # a 1 px outline. Caicedo et al. 2019 weigh a 2 px boundary class ten
    # times; on seven real images a weight of 3 with averaged weights gave a
    # validation AUC of 0.9920, 5 without averaging 0.9917 (900 steps, one
    # seed).
    targets=TargetConfig(gap=1, edge_width=2, edge_weight=3.0),
    # What the study names, and nothing else.
    augmentation=AugmentationConfig(
      roll=True,
      flip=True,
      rotate=True,
      scale=1.0,
      elastic=0.0,
      gain=1.0,
      offset=0.0,
      gamma=1.0,
    ),
    model=ModelConfig(
      width=1.0,
      head='transposed',
      # Trains from scratch at high rates; GoogLeNet's LRN and biases are there
      # as 'lrn'.
      normalization='batch',
      # Thrice the stride: neighbouring blocks overlap, no checkerboard. Twice
      # gave a validation AUC of 0.99195 where this gave 0.99204.
      head_kernel=96,
      head_init='random',
    ),
    optimizer=dataclasses.replace(RMSPROP, average=0.99),
    training=TrainingConfig(
      steps=900,
      # A crop covers several nuclei and their colony's surroundings.
      crop_size=256,
      batch_size=4,
      evaluate_every=450,
    ),
  )


def cells() -> Config:
  """Instances from a folder of a few labelled images, of any modality.

  Nothing here belongs to one set: the scale, the smallest cell and the rim
  follow from the training labels, the decoder's settings from the validation
  images.
  """
  return Config(
    data=DataConfig(dataset='labelled_folder', cell_diameter=40.0),
    # Outlines as labelled; touching cells are told apart by the shape maps.
    targets=TargetConfig(gap=0, valley=1, edge_width=2, edge_weight=2.0),
    augmentation=AugmentationConfig(
      scale=1.25,
      elastic=2.0,
      gain=1.25,
      offset=0.1,
      gamma=1.5,
      blur=1.5,
      centred=0.5,
    ),
    model=ModelConfig(
      maps='foreground,distance,centre', width=0.5, head='skips'
    ),
    optimizer=dataclasses.replace(RMSPROP, learning_rate=5e-4, average=0.99),
    training=TrainingConfig(
      steps=1500,
      batch_size=8,
      crop_size=192,
      evaluate_every=500,
      checkpoint_every=100,
      best_metric='mean_f1',
    ),
    decoding=DecodingConfig(
      method='ascent', objective='mean_f1', min_area=-1, rim=-1
    ),
  )


EXPERIMENTS = {
  'quickstart': quickstart,
  'case_study': case_study,
  'cells': cells,
}
