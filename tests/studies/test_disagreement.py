"""Images ranked by how much the members of an ensemble differ."""

import json

import numpy as np
import pytest
from tiny_networks import LINE, use_a_line
from tiny_sets import cells

from cellseg_jax.config import Config, ConfigError
from cellseg_jax.images import formats
from cellseg_jax.images.labels import LabelError
from cellseg_jax.inference.ensemble import ensemble
from cellseg_jax.inference.predict import Model
from cellseg_jax.studies import disagreement


def member(offset):
  params = {**LINE['params'], 'offset': np.float32(offset)}
  return Model({'params': params}, {'threshold': np.float32(0.5)}, Config())


def test_only_places_where_a_cell_is_seen_count():
  mean, deviation = np.zeros((4, 4)), np.full((4, 4), 0.1)
  assert disagreement.disagreement(mean, deviation) == 0
  mean[0], mean[1] = 0.9, 0.3
  deviation[1] = 0.3
  assert disagreement.disagreement(mean, deviation) == pytest.approx(0.2)


def test_the_image_on_which_members_differ_comes_first(monkeypatch, tmp_path):
  use_a_line(monkeypatch)
  bright, _ = cells(shape=(40, 50))
  # Between black and white, members of other offsets differ the most.
  faint = np.clip(bright.astype(int), 60, 75).astype(np.uint8)
  faint[:2], faint[2:4] = 0, 200
  for name, image in (('bright', bright), ('faint', faint)):
    formats.write_labels(tmp_path / f'{name}.tif', image)
  files = disagreement.find(tmp_path)
  model = ensemble([member(-0.25), member(0.25)])
  found = disagreement.rank_images(model, files, tmp_path)
  assert list(found) == ['faint.tif', 'bright.tif']
  assert 0 < found['bright.tif'] < found['faint.tif'] < 0.5
  assert json.loads((tmp_path / 'unlabelled.json').read_text()) == found
  lines = (tmp_path / 'unlabelled.csv').read_text().splitlines()
  assert lines[0] == 'rank,file,disagreement'
  assert lines[1].startswith('1,faint.tif,0.')
  picture = formats.read_image(tmp_path / 'unlabelled.png')
  assert picture[..., :3].std() > 10


def test_what_cannot_be_ranked_is_named(monkeypatch, tmp_path):
  use_a_line(monkeypatch)
  with pytest.raises(ConfigError, match='--unlabelled: no image in'):
    disagreement.find(tmp_path)
  path = tmp_path / 'colour.png'
  formats.write_picture(path, np.zeros((40, 40, 3), np.uint8))
  model = ensemble([member(0.0), member(0.1)])
  with pytest.raises(LabelError, match=r'colour.png: .* 3 channels'):
    disagreement.rank_images(model, [path], tmp_path)
