"""Checks of a configuration, which name the field that cannot be used.

Called before anything is loaded or compiled; also the allowed values and ranges
of every field.
"""

import math

from cellseg_jax.config import Config, ConfigError, map_names, STRIDE

DATASETS = (
  'simulated_colonies',
  'labelled_folder',
  's_bsst265',
  'bbbc038',
  'cell_tracking_challenge',
)
NORMALIZATIONS = ('none', 'lrn', 'batch')
HEADS = ('transposed', 'skips')
HEAD_INITS = ('random', 'bilinear')
COMPUTES = ('auto', 'float32', 'bfloat16')
STREAMS = ('auto', 'never', 'always')
BINARY_LABELS = ('refuse', 'components')
METRICS = ('roc_auc', 'f1', 'mean_f1', 'dice')
METHODS = ('components', 'ascent')
OBJECTIVES = ('f1', 'mean_f1')
MAPS = ('foreground', 'distance', 'centre')


def validate(config: Config) -> None:
  """Checks everything that can be checked without reading the data.

  Raises:
    ConfigError: A field is impossible; the message names it, its value and what
      is allowed.
  """
  check_values(config)
  if config.data.dataset != 'simulated_colonies' and not config.data.path:
    raise ConfigError(
      f'config.data.path must name a folder when config.data.dataset is '
      f'{config.data.dataset}, found nothing'
    )


def check_values(config: Config) -> None:
  """Checks all values, but not that a data folder is named.

  Enough for a trained model, whose data may be on another machine.

  Raises:
    ConfigError: A field is impossible; the message names it, its value and what
      is allowed.
  """
  _check_choices(config)
  for where, value, low, high in _ranges(config):
    if not low <= value <= high:  # Also refuses NaN.
      bound = f'at least {low}' if high == math.inf else f'{low} to {high}'
      raise ConfigError(f'config.{where} must be {bound}, found {value}')
  for where, value in (
    ('training.crop_size', config.training.crop_size),
    ('model.head_kernel', config.model.head_kernel),
  ):
    if value % STRIDE:
      below = value - value % STRIDE
      near = [n for n in (below, below + STRIDE) if n > 0]
      raise ConfigError(
        f'config.{where} must be a multiple of the network stride {STRIDE}, '
        f'found {value}; the nearest are {" and ".join(map(str, near))}'
      )
  _check_head(config)
  for where, value in (
    ('decoding.centre_share', config.decoding.centre_share),
    ('decoding.confidence', config.decoding.confidence),
  ):
    if -1 < value < 0:
      raise ConfigError(
        f'config.{where} must be -1, which lets it be chosen, or 0 to 1, found '
        f'{value}'
      )
  _check_maps(config)
  intensity = config.intensity
  if intensity.low_percentile >= intensity.high_percentile:
    raise ConfigError(
      'config.intensity.low_percentile must be below '
      f'config.intensity.high_percentile, found {intensity.low_percentile} '
      f'and {intensity.high_percentile}'
    )


def _check_head(config: Config) -> None:
  """Checks that bilinear initialisation fits the head and its kernel."""
  model = config.model
  if model.head_init != 'bilinear':
    return
  if model.head != 'transposed':
    raise ConfigError(
      "config.model.head_init 'bilinear' needs config.model.head 'transposed', "
      f'found {model.head!r}'
    )
  if model.head_kernel == STRIDE:
    raise ConfigError(
      "config.model.head_init 'bilinear' needs neighbouring blocks to overlap: "
      f'config.model.head_kernel must be at least {2 * STRIDE}, found {STRIDE}'
    )


def _check_maps(config: Config) -> None:
  """Checks that the maps exist and are those that head and decoder need."""
  names = map_names(config.model)
  known = set(names) <= set(MAPS) and len(set(names)) == len(names)
  if not known or names[0] != 'foreground':
    raise ConfigError(
      "config.model.maps must be 'foreground', alone or followed by others of "
      f'{", ".join(MAPS[1:])}, separated by commas; found '
      f'{config.model.maps!r}'
    )
  if len(names) > 1 and config.model.head != 'skips':
    raise ConfigError(
      f'config.model.maps {config.model.maps!r} needs config.model.head '
      f"'skips', found {config.model.head!r}"
    )
  if config.decoding.method == 'ascent' and set(names) != set(MAPS):
    raise ConfigError(
      "config.decoding.method 'ascent' needs config.model.maps "
      f'{",".join(MAPS)!r}, found {config.model.maps!r}'
    )


def _check_choices(config: Config) -> None:
  for where, value, allowed in (
    ('data.dataset', config.data.dataset, DATASETS),
    ('data.binary_labels', config.data.binary_labels, BINARY_LABELS),
    ('model.normalization', config.model.normalization, NORMALIZATIONS),
    ('model.head', config.model.head, HEADS),
    ('model.head_init', config.model.head_init, HEAD_INITS),
    ('model.compute', config.model.compute, COMPUTES),
    ('training.stream', config.training.stream, STREAMS),
    ('training.best_metric', config.training.best_metric, METRICS),
    ('decoding.method', config.decoding.method, METHODS),
    ('decoding.objective', config.decoding.objective, OBJECTIVES),
  ):
    if value not in allowed:
      raise ConfigError(
        f'config.{where} must be one of {", ".join(allowed)}, found {value!r}'
      )


def _ranges(config: Config) -> list[tuple[str, float, float, float]]:
  """Returns field, value, minimum and maximum of every bounded number."""
  data, intensity, targets = config.data, config.intensity, config.targets
  augmentation, model = config.augmentation, config.model
  optimizer, training = config.optimizer, config.training
  tiny = 1e-12
  return [
    ('data.held_out', data.held_out, 0, math.inf),
    ('data.channels', data.channels, 1, 64),
    ('data.ignore_value', data.ignore_value, -1, 2**32 - 1),
    ('data.resample', data.resample, 0.05, 8),
    ('data.cell_diameter', data.cell_diameter, 0, 1024),
    ('data.diameter', data.diameter, 0, 1e6),
    ('data.pixel_size', data.pixel_size, 0, 1e6),
    ('data.max_pixels', data.max_pixels, 1, math.inf),
    ('intensity.low_percentile', intensity.low_percentile, 0, 100),
    ('intensity.high_percentile', intensity.high_percentile, 0, 100),
    ('intensity.sample', intensity.sample, 256, math.inf),
    ('intensity.noise_floor', intensity.noise_floor, 0, 1e3),
    ('targets.gap', targets.gap, 0, 16),
    ('targets.valley', targets.valley, 0, 16),
    ('targets.edge_width', targets.edge_width, 0, 64),
    ('targets.edge_weight', targets.edge_weight, 0, 1e3),
    ('targets.edge_smoothing', targets.edge_smoothing, 0, 0.9),
    ('augmentation.scale', augmentation.scale, 1, 4),
    ('augmentation.elastic', augmentation.elastic, 0, 64),
    ('augmentation.elastic_spacing', augmentation.elastic_spacing, 4, 1024),
    ('augmentation.gain', augmentation.gain, 1, 16),
    ('augmentation.offset', augmentation.offset, 0, 1),
    ('augmentation.gamma', augmentation.gamma, 1, 8),
    ('augmentation.blur', augmentation.blur, 0, 16),
    ('augmentation.noise', augmentation.noise, 0, 1),
    ('augmentation.centred', augmentation.centred, 0, 1),
    ('model.width', model.width, 0.05, 4),
    ('model.batch_norm_momentum', model.batch_norm_momentum, 0, 0.99999),
    ('model.head_kernel', model.head_kernel, STRIDE, 8 * STRIDE),
    ('optimizer.learning_rate', optimizer.learning_rate, tiny, 10),
    ('optimizer.warmup_fraction', optimizer.warmup_fraction, 0, 1),
    ('optimizer.final_fraction', optimizer.final_fraction, 0, 1),
    ('optimizer.decay', optimizer.decay, 0, 0.99999),
    ('optimizer.eps', optimizer.eps, tiny, 10),
    ('optimizer.initial_scale', optimizer.initial_scale, 0, 1e6),
    ('optimizer.momentum', optimizer.momentum, 0, 0.99999),
    ('optimizer.clip_norm', optimizer.clip_norm, 0, math.inf),
    ('optimizer.weight_decay', optimizer.weight_decay, 0, 10),
    ('optimizer.average', optimizer.average, 0, 0.99999),
    ('training.steps', training.steps, 1, math.inf),
    ('training.batch_size', training.batch_size, 1, math.inf),
    ('training.crop_size', training.crop_size, STRIDE, 4096),
    ('training.seed', training.seed, 0, 2**32 - 1),
    ('training.log_every', training.log_every, 1, math.inf),
    ('training.evaluate_every', training.evaluate_every, 1, math.inf),
    ('training.checkpoint_every', training.checkpoint_every, 1, math.inf),
    ('training.most_skipped', training.most_skipped, 0, math.inf),
    ('training.steps_per_call', training.steps_per_call, 0, 10_000),
    ('decoding.threshold', config.decoding.threshold, 0, 1),
    ('decoding.centre_share', config.decoding.centre_share, -1, 1),
    ('decoding.depth', config.decoding.depth, 0, 1),
    ('decoding.confidence', config.decoding.confidence, -1, 1),
    ('decoding.min_area', config.decoding.min_area, -1, math.inf),
    # When derived, it is at most the largest gap over the smallest `resample`.
    ('decoding.rim', config.decoding.rim, -1, 320),
  ]
