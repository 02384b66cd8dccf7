"""The configuration of a run: typed dataclasses, with a comment per field.

A `Config` is frozen and hashable, so it can be a static argument of a compiled
function. An experiment is a function that returns one; command-line flags
override single fields (`cellseg_jax.cli.config_flag`).
"""

import dataclasses

STRIDE = 32  # Input pixels per pixel of the coarsest feature map, per axis.


class ConfigError(ValueError):
  """A field of the configuration is unknown, mistyped or impossible."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which labelled images to train on, and at what scale."""

  # One of `validation.DATASETS`.
  dataset: str = 'simulated_colonies'
  # Folder of the data set: yours for labelled_folder, the download for a public
  # set.
  path: str = ''
  # Split to train on.
  train_split: str = 'train'
  # Split on which settings are chosen; '' takes `validation`, or held-out crops
  # of the training images if there is no such split.
  validation_split: str = ''
  # Number of training images to move to the validation split.
  held_out: int = 0
  # Names of the training images to use, separated by commas; '' uses all. If
  # there are no other validation images, the remaining ones serve as such.
  train_images: str = ''
  # Number of channels of every image.
  channels: int = 1
  # Label value of unlabelled pixels, whose weight is 0; -1 for none.
  ignore_value: int = -1
  # What to do with binary label images: 'refuse' them, or take their connected
  # 'components' as cells.
  binary_labels: str = 'refuse'
  # Network-input pixels per image pixel, along each axis.
  resample: float = 1.0
  # Wanted diameter of the median training cell, in network-input pixels; it
  # determines `resample`. 0 leaves `resample` as given.
  cell_diameter: float = 0.0
  # Diameter of the median training cell, in image pixels; 0 measures it in the
  # labels. Images whose cells have another size are rescaled to it.
  diameter: float = 0.0
  # Side of a pixel of the training images, in um; 0 takes it from the files if
  # they state it. Images with another pixel size are rescaled to it.
  pixel_size: float = 0.0
  # Maximum number of values in an image or label image: a guard against headers
  # that claim any size.
  max_pixels: int = 2**30
  # Folder for prepared copies of data sets; '' is ~/.cache/cellseg_jax.
  cache: str = ''


@dataclasses.dataclass(frozen=True)
class IntensityConfig:
  """Per-image, per-channel intensity normalisation."""

  # Percentiles mapped to 0 and 1.
  low_percentile: float = 1.0
  high_percentile: float = 99.8
  # Approximate number of pixels, on a fixed grid, from which percentiles and
  # noise are estimated.
  sample: int = 65536
  # Minimum intensity range, in standard deviations of the pixel noise, so that
  # the noise of an empty field is not stretched to full contrast.
  noise_floor: float = 12.0


@dataclasses.dataclass(frozen=True)
class TargetConfig:
  """Training targets and pixel weights; widths in network-input pixels."""

  # Pixels of a cell within this distance of another cell become background.
  gap: int = 1
  # Larger gap for the distance and centre maps alone (no effect unless above
  # `gap`): cells keep their outlines in the foreground, and a valley separates
  # touching cells in the other maps.
  valley: int = 0
  # Pixels within this distance of the border of a cell are edge pixels.
  edge_width: int = 2
  # Weight of edge pixels; all other labelled pixels have weight 1.
  edge_weight: float = 5.0
  # Label smoothing of edge pixels: the fraction by which their foreground
  # target moves from 0 or 1 towards 1/2.
  edge_smoothing: float = 0.0


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
  """Random changes applied to every training crop."""

  # Circular translation: crops wrap around the borders of the image.
  roll: bool = True
  # Reflection along either axis.
  flip: bool = True
  # Rotation by any angle.
  rotate: bool = True
  # Maximum magnification; the scale is between its inverse and it. 1 is off.
  scale: float = 1.0
  # Standard deviation of the elastic displacement, in pixels; 0 is off.
  elastic: float = 0.0
  # Distance between the nodes of the elastic grid, in pixels.
  elastic_spacing: int = 32
  # Maximum intensity gain; the factor is between its inverse and it. 1 is off.
  gain: float = 1.0
  # Maximum intensity offset, up or down; 0 is off.
  offset: float = 0.0
  # Maximum exponent of the intensity curve; the exponent is between its inverse
  # and it. 1 is off.
  gamma: float = 1.0
  # Maximum standard deviation of a Gaussian blur, in pixels; 0 is off.
  blur: float = 0.0
  # Maximum standard deviation of added noise, at full intensity; 0 is off.
  noise: float = 0.0
  # Fraction of crops that are centred on a cell; all cells are equally likely.
  centred: float = 0.0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """Architecture, initialisation and precision of the network."""

  # Maps to predict: 'foreground', alone or followed by 'distance' and 'centre'
  # (see `images.shape_maps`), separated by commas.
  maps: str = 'foreground'
  # Multiplier of GoogLeNet's channel counts; the results are rounded to
  # multiples of 8.
  width: float = 1.0
  # 'none', 'lrn' (local response normalisation, as in GoogLeNet) or 'batch'
  # (batch normalisation after every convolution).
  normalization: str = 'batch'
  # Fraction of the running batch statistics that is kept at each step.
  batch_norm_momentum: float = 0.9
  # 'transposed' (one transposed convolution) or 'skips' (a light decoder that
  # also reads the feature maps of strides 2, 4, 8 and 16).
  head: str = 'transposed'
  # Side of the kernel of the transposed convolution; a multiple of the stride,
  # 32. Not used by the head 'skips'.
  head_kernel: int = 64
  # Initial kernel of the transposed convolution: 'random' (LeCun normal) or
  # 'bilinear' upsampling.
  head_init: str = 'random'
  # Precision of the feature maps: 'float32', 'bfloat16', or 'auto', which is
  # bfloat16 while training on GPUs and float32 otherwise. Parameters, logits
  # and loss are always float32.
  compute: str = 'auto'


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """RMSprop with linear warm-up and cosine annealing."""

  # Peak learning rate.
  learning_rate: float = 1e-3
  # Fraction of the steps over which the learning rate rises linearly from 0.
  warmup_fraction: float = 0.08
  # Final learning rate as a fraction of the peak.
  final_fraction: float = 0.0
  # Decay rate of the running mean of the squared gradient.
  decay: float = 0.9
  # Constant added to the mean squared gradient under the square root.
  eps: float = 1e-8
  # Initial mean squared gradient.
  initial_scale: float = 0.0
  # Subtract the square of the mean gradient (centred RMSprop).
  centered: bool = False
  # Momentum of the update; 0 is none.
  momentum: float = 0.0
  # Use Nesterov momentum.
  nesterov: bool = False
  # Global norm to which the gradient is clipped; 0 does not clip.
  clip_norm: float = 0.0
  # Decoupled weight decay; multiplied by the learning rate.
  weight_decay: float = 0.0
  # Fraction of the averaged weights that is kept at each step (Polyak
  # averaging); evaluation and prediction use the average. 0 does not average.
  average: float = 0.0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """Length of the training, batches, logging and checkpoints."""

  # Total number of updates.
  steps: int = 600
  # Crops per update, over all devices of all processes.
  batch_size: int = 8
  # Side of a crop, in network-input pixels; a multiple of the stride, 32.
  crop_size: int = 256
  # Whether to stream crops from disk: 'never' keeps the training images in
  # device memory, 'always' streams, and 'auto' streams if the images would take
  # more than a quarter of a device's memory. The crops are the same.
  stream: str = 'auto'
  # Folder of a training run whose weights to start from; '' draws random ones.
  init_from: str = ''
  # Seed of the initial weights and of all sampling.
  seed: int = 0
  # Use XLA's deterministic operations, which make runs on GPUs reproducible bit
  # for bit; runs on CPUs are so anyway.
  deterministic: bool = False
  # Steps between logged losses.
  log_every: int = 10
  # Steps between evaluations.
  evaluate_every: int = 200
  # Steps between checkpoints; every evaluation also saves one.
  checkpoint_every: int = 100
  # Maximum number of steps per compiled call; 0 means 1 on CPUs, 20 elsewhere.
  steps_per_call: int = 0
  # Maximum number of consecutive updates that are skipped because the loss or
  # gradient is not finite; one more ends the run.
  most_skipped: int = 10
  # Validation metric by which the best checkpoint is chosen.
  best_metric: str = 'roc_auc'


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
  """How predicted maps become label images; sizes in image pixels."""

  # 'components' (threshold, then connected components) or 'ascent' (basins of
  # the distance and centre maps).
  method: str = 'components'
  # What the choice of settings maximises on the validation images: 'f1' at IoU
  # 0.5, or 'mean_f1' over IoU 0.5 to 0.9.
  objective: str = 'f1'
  # Foreground probability above which a pixel belongs to a cell; 0 has it
  # chosen on the validation images.
  threshold: float = 0.0
  # 'ascent': weight of the centre map in the height; -1 has it chosen.
  centre_share: float = -1.0
  # 'ascent': minimum depth of the valley between two cells; 0 has it chosen.
  depth: float = 0.0
  # 'ascent': minimum confidence of a cell; -1 has it chosen.
  confidence: float = -1.0
  # Average the maps over flips and quarter turns, which takes 8 times as long.
  turns: bool = False
  # Minimum area of a cell; -1 takes a quarter of the 2nd percentile of the
  # training cells' areas.
  min_area: int = 30
  # Fill holes in cells.
  fill_holes: bool = True
  # Pixels by which cells grow after they are separated, without merging; -1
  # takes the gap of the targets, converted to image pixels.
  rim: int = 1


@dataclasses.dataclass(frozen=True)
class Config:
  """Everything that a training run depends on.

  Examples:
    >>> import cellseg_jax
    >>> from cellseg_jax.serialization import replace
    >>> config = replace(cellseg_jax.Config(), training={'steps': 300})
    >>> config.training.steps, config.training.batch_size
    (300, 8)
  """

  data: DataConfig = DataConfig()
  intensity: IntensityConfig = IntensityConfig()
  targets: TargetConfig = TargetConfig()
  augmentation: AugmentationConfig = AugmentationConfig()
  model: ModelConfig = ModelConfig()
  optimizer: OptimizerConfig = OptimizerConfig()
  training: TrainingConfig = TrainingConfig()
  decoding: DecodingConfig = DecodingConfig()


def map_names(model: ModelConfig) -> tuple[str, ...]:
  """Returns the names of the maps that a network predicts, in order."""
  return tuple(name.strip() for name in model.maps.split(','))
