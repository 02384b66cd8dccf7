"""The configuration of a run: typed dataclasses, a comment a field.

A `Config` is frozen and hashable, so it can be a static argument of a compiled
function. Experiments are functions that return one; command-line flags change
single fields (`cellseg_jax.cli.config_flag`).
"""

import dataclasses

STRIDE = 32  # Input pixels per cell of the network's coarsest map.


class ConfigError(ValueError):
  """A field of the configuration is unknown, mistyped or impossible."""


@dataclasses.dataclass(frozen=True)
class DataConfig:
  """Which labelled images to train on, and at what scale."""

  # One of `validation.DATASETS`.
  dataset: str = 'simulated_colonies'
  # labelled_folder: the folder. Public sets: the folder you downloaded into.
  path: str = ''
  # Split to train on.
  train_split: str = 'train'
  # Split to choose settings on; '' is `validation`, else held-out crops.
  validation_split: str = ''
  # Training images to move to the validation split.
  held_out: int = 0
  # Names of the training images to use, separated by commas; '' is all. The
  # others are validation images where there are none else.
  train_images: str = ''
  # Channels of every image.
  channels: int = 1
  # Label value of pixels nobody labelled (their weight is 0); -1 for none.
  ignore_value: int = -1
  # Binary label images: 'refuse', or take connected 'components' as cells.
  binary_labels: str = 'refuse'
  # Pixels of the network's input per pixel of the image, along each axis.
  resample: float = 1.0
  # Diameter of the median training cell in network-input pixels; sets
  # `resample`. 0 leaves that as it is.
  cell_diameter: float = 0.0
  # Diameter of the median training cell, in pixels of the image; 0 takes it
  # from the labels. Images with cells of another size are scaled to it.
  diameter: float = 0.0
  # Side of a pixel of the training images in um; 0 takes it from the files,
  # where they have it. Files that have another one are scaled to it.
  pixel_size: float = 0.0
  # Most values of an image or label image; a header can claim any size.
  max_pixels: int = 2**30
  # Where prepared copies lie; '' is ~/.cache/cellseg_jax.
  cache: str = ''


@dataclasses.dataclass(frozen=True)
class IntensityConfig:
  """Per-image, per-channel intensity normalisation."""

  # Percentiles mapped to 0 and 1.
  low_percentile: float = 1.0
  high_percentile: float = 99.8
  # About how many pixels are looked at, on a fixed grid.
  sample: int = 65536
  # Least range, in standard deviations of the pixel noise, so that an empty
  # field is not stretched into noise.
  noise_floor: float = 12.0


@dataclasses.dataclass(frozen=True)
class TargetConfig:
  """Training targets and pixel weights; widths in network-input pixels."""

  # Pixels of a cell within this distance of another become background.
  gap: int = 1
  # The same for the distance and centre maps alone, where it is the larger one:
  # the foreground keeps its outlines, and a valley runs between touching cells.
  valley: int = 0
  # Pixels within this distance of a cell's outline are edge pixels.
  edge_width: int = 2
  # Weight of edge pixels; every other labelled pixel weighs 1.
  edge_weight: float = 5.0
  # Share by which edge pixels' foreground is moved from 0 or 1 towards 1/2.
  edge_smoothing: float = 0.0


@dataclasses.dataclass(frozen=True)
class AugmentationConfig:
  """Random changes of every training crop."""

  # Circular translation: crops wrap around the image's borders.
  roll: bool = True
  # Mirror images, along either axis.
  flip: bool = True
  # Rotation by any angle.
  rotate: bool = True
  # Largest factor of magnification (and of shrinking); 1 is off.
  scale: float = 1.0
  # Standard deviation of the elastic displacement, in pixels; 0 is off.
  elastic: float = 0.0
  # Distance of the elastic grid's nodes, in pixels.
  elastic_spacing: int = 32
  # Largest factor of intensity gain (and loss); 1 is off.
  gain: float = 1.0
  # Largest intensity offset, either way; 0 is off.
  offset: float = 0.0
  # Largest exponent (and its inverse) of the intensity curve; 1 is off.
  gamma: float = 1.0
  # Largest standard deviation of a Gaussian blur, in pixels; 0 is off.
  blur: float = 0.0
  # Largest standard deviation of added noise, at full intensity; 0 is off.
  noise: float = 0.0
  # Share of the crops that are centred on a cell, every cell alike.
  centred: float = 0.0


@dataclasses.dataclass(frozen=True)
class ModelConfig:
  """The network."""

  # Maps to predict: 'foreground' alone, or with 'distance' and 'centre' (see
  # `images.targets`), separated by commas.
  maps: str = 'foreground'
  # Multiplies every channel count of GoogLeNet (to multiples of 8).
  width: float = 1.0
  # 'none', 'lrn' (as GoogLeNet) or 'batch' (after every convolution).
  normalization: str = 'batch'
  # Share of the running batch statistics kept at each step.
  batch_norm_momentum: float = 0.9
  # 'transposed' (one transposed convolution) or 'skips' (a light decoder that
  # also reads the maps of strides 2, 4, 8 and 16).
  head: str = 'transposed'
  # Side of the transposed convolution's kernel; a multiple of the stride, 32.
  # 'skips' has none.
  head_kernel: int = 64
  # Initial transposed convolution: 'random' (LeCun normal) or 'bilinear'
  # upsampling.
  head_init: str = 'random'
  # Precision of the maps inside: 'float32', 'bfloat16', or 'auto': bfloat16
  # while training on GPUs, else float32. Parameters, logits and loss are
  # float32.
  compute: str = 'auto'


@dataclasses.dataclass(frozen=True)
class OptimizerConfig:
  """RMSprop with linear warm-up and cosine annealing."""

  # Peak learning rate.
  learning_rate: float = 1e-3
  # Share of the steps over which the rate rises linearly from 0.
  warmup_fraction: float = 0.08
  # Final learning rate as a share of the peak.
  final_fraction: float = 0.0
  # Decay of the mean squared gradient.
  decay: float = 0.9
  # Added to the mean squared gradient, under the root.
  eps: float = 1e-8
  # Initial mean squared gradient.
  initial_scale: float = 0.0
  # Subtract the mean gradient's square (centred RMSprop).
  centered: bool = False
  # Momentum of the update; 0 is none.
  momentum: float = 0.0
  # Nesterov's form of the momentum.
  nesterov: bool = False
  # Largest global norm of the gradient; 0 does not clip.
  clip_norm: float = 0.0
  # Decoupled weight decay, as a rate multiplied by the learning rate.
  weight_decay: float = 0.0
  # Share of the averaged weights kept at each step (Polyak averaging); the
  # average is what is evaluated and used. 0 does not average.
  average: float = 0.0


@dataclasses.dataclass(frozen=True)
class TrainingConfig:
  """How long, how much at once, how often looked at."""

  # Updates in all.
  steps: int = 600
  # Crops an update, over all devices of all processes.
  batch_size: int = 8
  # Side of a crop, in network-input pixels; a multiple of the stride, 32.
  crop_size: int = 256
  # Training images lie on the devices ('never'), or crops of them are streamed
  # from the disk ('always'); 'auto' streams where they would take more than a
  # quarter of a device's memory. The crops are the same.
  stream: str = 'auto'
  # Folder of a trained run whose weights to start from; '' draws them.
  init_from: str = ''
  # Seed of the initial weights and of every sample.
  seed: int = 0
  # The same bits every time on GPUs, by XLA's deterministic operations; on CPUs
  # it is so without.
  deterministic: bool = False
  # Steps between logged losses.
  log_every: int = 10
  # Steps between evaluations.
  evaluate_every: int = 200
  # Steps between checkpoints (each evaluation saves one too).
  checkpoint_every: int = 100
  # Most steps in one compiled call; 0 is 1 on CPUs and 20 elsewhere.
  steps_per_call: int = 0
  # Most updates in a row that are skipped since their loss or gradient is not
  # finite; one more ends the run.
  most_skipped: int = 10
  # Validation metric that names the best checkpoint.
  best_metric: str = 'roc_auc'


@dataclasses.dataclass(frozen=True)
class DecodingConfig:
  """From maps to label images; sizes in pixels of the image."""

  # 'components' (threshold, connected components) or 'ascent' (basins of the
  # distance and centre maps).
  method: str = 'components'
  # What settings that are to be chosen maximise on the validation images: 'f1'
  # at IoU 0.5, or 'mean_f1' over IoU 0.5 to 0.9.
  objective: str = 'f1'
  # Probability above which a pixel is cell; 0 chooses.
  threshold: float = 0.0
  # 'ascent': share of the centre map in the height; -1 chooses.
  centre_share: float = -1.0
  # 'ascent': least depth of the valley between two cells; 0 chooses.
  depth: float = 0.0
  # 'ascent': least confidence of a cell; -1 chooses.
  confidence: float = -1.0
  # Average the maps over flips and quarter turns: 8 times the time.
  turns: bool = False
  # Smallest cell kept; -1 is a quarter of nearly the smallest training cell.
  min_area: int = 30
  # Fill the holes of a cell.
  fill_holes: bool = True
  # Growth of every cell after separation, without merging with another; -1 is
  # the gap of the targets.
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
