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
  assert len(loaded) == 3
  cell_count = int(names['labels'].max())
  assert cell_count == int(names['cells'].count) > 5
  movie = np.stack([cells(0)[0], cells(1)[0]])
  counts = names['cells_over_time'](model, movie)
  assert counts.tolist() == [cell_count] * 2
  assert (np.asarray(names['influence'])[names['inside']] != 0).any()
  assert (names['doubt'] == 0).all()
