"""The README's Python runs as it stands there."""

import pathlib
import re

import numpy as np
from tiny_networks import LINE, segment_quickly, use_a_line
from tiny_sets import cells

import cellseg_jax
from cellseg_jax.config import Config
from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace

README = pathlib.Path(__file__).parents[1] / 'README.md'


def test_the_examples_run(monkeypatch):
  use_a_line(monkeypatch)
  segment_quickly(monkeypatch)
  config = replace(Config(), decoding={'min_area': 5})
  model = Model(LINE, {'threshold': np.float32(0.6)}, config)
  loaded = []
  monkeypatch.setattr(
    cellseg_jax, 'load_model', lambda run: loaded.append(run) or model
  )
  monkeypatch.setattr('skimage.io.imread', lambda path: cells()[0])
  names = {}
  for block in re.findall(r'```python\n(.*?)```', README.read_text(), re.S):
    exec(block, names)
  assert loaded == ['runs/first']
  assert int(names['labels'].max()) == int(names['cells'].count) > 5
  assert names['probability'].shape == names['labels'].shape
