"""`experiments/cells.py` with one part removed, or with one part added.

`--config=experiments/ablation.py:PART`; `tests/benchmarks/ablation.py` runs
them all and prints the table.
"""

from typing import Any

from cellseg_jax.config import Config, ConfigError
from cellseg_jax.experiments import cells
from cellseg_jax.serialization import replace

PARTS: dict[str, dict[str, dict[str, Any]]] = {
  'all': {},
  # Removed.
  'no_rotation': {'augmentation': {'rotate': False}},
  'no_scale': {'augmentation': {'scale': 1.0}},
  'no_elastic': {'augmentation': {'elastic': 0.0}},
  'no_intensity': {'augmentation': {'gain': 1.0, 'offset': 0.0, 'gamma': 1.0}},
  'no_blur': {'augmentation': {'blur': 0.0}},
  'no_centring': {'augmentation': {'centred': 0.0}},
  'no_edge_weight': {'targets': {'edge_weight': 1.0}},
  'no_average': {'optimizer': {'average': 0.0}},
  'no_cell_size': {'data': {'cell_diameter': 0.0}},
  'no_confidence': {'decoding': {'confidence': 0.0}},
  'no_distance': {'decoding': {'centre_share': 1.0}},
  'no_centre': {'decoding': {'centre_share': 0.0}},
  'no_valley': {'targets': {'valley': 0}},
  # Added, or in its place.
  'noise': {'augmentation': {'noise': 0.1}},
  'gap': {'targets': {'gap': 1}},
  'turns': {'decoding': {'turns': True}},
  'weight_decay': {'optimizer': {'weight_decay': 0.05}},
  'label_smoothing': {'targets': {'edge_smoothing': 0.2}},
  'lower_rate': {'optimizer': {'learning_rate': 2e-4}},
  'full_width': {'model': {'width': 1.0}},
}


def get_config(part: str = 'all') -> Config:
  """Returns the configuration without `part`, for `run_train.py --config`."""
  if part not in PARTS:
    raise ConfigError(f'no part {part!r}; there are {", ".join(PARTS)}')
  return replace(cells(), **PARTS[part])
