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

# The same with a large initial mean square (TensorFlow 1's RMSprop starts from
# 1), which a low decay forgets within a hundred steps. The first updates are
# then small and proportional to the gradient, whereas RMSprop usually starts
# with updates of the gradient's sign, even where the gradient is a rounding
# error: so runs on 1 and on 4 devices agree to 1e-5 over the first steps.
STEADY_RMSPROP = dataclasses.replace(
  RMSPROP, learning_rate=5e-4, decay=0.8, initial_scale=1000.0
)


def quickstart() -> Config:
  """Returns a run on simulated colonies that takes minutes on a laptop."""
  return Config(
    data=DataConfig(dataset='simulated_colonies', resample=0.5),
    # In minutes, one transposed convolution does not learn to draw nuclei as
    # small as its stride: after 300 steps the AUC was 0.975.
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
  """Returns the published 2018 method, on a folder of your own images.

  Full-width GoogLeNet, one transposed convolution, a pixel loss with higher
  weight at edges, random crops with rolls, flips and rotations, RMSprop,
  annealing. Choices that the study does not state are explained beside their
  fields.
  """
  return Config(
    data=DataConfig(
      dataset='labelled_folder',
      # The study's nuclei span 40-90 pixels. Half resolution brings nuclei of
      # twice that size to this range and covers four times the area in the same
      # time.
      resample=0.5,
    ),
    # Percentiles: a saturated pixel or dark corner must not set the range.
    intensity=IntensityConfig(low_percentile=1.0, high_percentile=99.8),
    # The study's masks leave a thin gap between neighbours, and its edges are
    # a 1 px outline. Caicedo et al. 2019 give a 2 px boundary class ten times
    # the weight. On seven real images an edge weight of 3 with averaged
    # parameters gave a validation AUC of 0.9920, and 5 without averaging gave
    # 0.9917 (900 steps, one seed).
    targets=TargetConfig(gap=1, edge_width=2, edge_weight=3.0),
    # Only what the study names.
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
      # Trains from scratch at high learning rates; 'lrn' is GoogLeNet's own
      # local response normalisation with biases.
      normalization='batch',
      # Three times the stride: neighbouring blocks overlap, so there is no
      # checkerboard. Twice the stride gave a validation AUC of 0.99195, this
      # 0.99204.
      head_kernel=96,
      head_init='random',
    ),
    optimizer=dataclasses.replace(RMSPROP, average=0.99),
    training=TrainingConfig(
      steps=900,
      # Covers several nuclei and the surroundings of their colony.
      crop_size=256,
      batch_size=4,
      evaluate_every=450,
    ),
  )


def cells() -> Config:
  """Returns instance segmentation from a few labelled images of any kind.

  Nothing here is specific to a data set: the scale, the smallest cell and the
  rim are derived from the training labels, the decoder's settings from the
  validation images.
  """
  return Config(
    data=DataConfig(dataset='labelled_folder', cell_diameter=40.0),
    # Outlines stay as labelled; the shape maps separate touching cells.
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
