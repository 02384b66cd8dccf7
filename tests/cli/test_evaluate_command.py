"""`cellseg evaluate` on folders of label images."""

import json
import sys

import numpy as np
import pytest
from skimage.io import imread
from tiny_sets import cells

from cellseg_jax.cli import main
from cellseg_jax.evaluation import scores
from cellseg_jax.images import formats


@pytest.fixture
def folders(tmp_path):
  """Two pairs of label images; in the second a cell is missed."""
  for name, seed in (('a', 0), ('b', 1)):
    _, labels = cells(seed)
    for folder in ('true', 'found'):
      (tmp_path / folder).mkdir(exist_ok=True)
      kept = np.where((labels == 3) & (name == 'b'), 0, labels)
      shown = labels if folder == 'true' else kept
      formats.write_labels(tmp_path / folder / f'{name}.tif', shown)
  return tmp_path


def evaluate(monkeypatch, folder, *others):
  arguments = ['--labels', folder / 'true', '--predictions', folder / 'found']
  words = ['cellseg', 'evaluate', *map(str, arguments), *map(str, others)]
  monkeypatch.setattr(sys, 'argv', words)
  return main.run()


def test_figures_and_pictures_of_each_and_all(monkeypatch, capsys, folders):
  out = folders / 'all.json'
  assert evaluate(monkeypatch, folders, '--json', out) == 0
  report = json.loads(out.read_text())
  counts = [
    scores.count(*(imread(folders / f / f'{n}.tif') for f in ('true', 'found')))
    for n in 'ab'
  ]
  assert report['pooled'] == scores.metrics(scores.pool(counts))
  assert report['images']['b'] == scores.metrics(counts[1])
  assert report['pooled']['missed'] == 1
  lines = capsys.readouterr().out.splitlines()
  assert lines[0].startswith('a: true ')
  assert 'missed 1' in lines[1]
  assert lines[2].startswith('all 2: ')
  assert f'mean_ap {report["pooled"]["mean_ap"]:.4f}' in '\n'.join(lines)
  for name in 'ab':
    picture = imread(folders / 'found' / 'errors' / f'{name}.png')
    assert picture.shape == (60, 80, 3)
  # The pictures are no predictions: the same again gives the same.
  assert evaluate(monkeypatch, folders, '--json', out) == 0
  assert json.loads(out.read_text()) == report


def test_the_limit_on_pixels_is_the_users(monkeypatch, capsys, folders):
  assert evaluate(monkeypatch, folders, '--max-pixels', '4800') == 0
  assert evaluate(monkeypatch, folders, '--max-pixels', '4799') == 2
  assert '4799 are allowed' in capsys.readouterr().err


def test_errors_are_drawn_on_the_images(monkeypatch, folders):
  (folders / 'images').mkdir()
  for name, seed in (('a', 0), ('b', 1)):
    formats.write_labels(folders / 'images' / f'{name}.tif', cells(seed)[0])
  options = ['--images', folders / 'images', '--pictures', folders / 'shown']
  assert evaluate(monkeypatch, folders, *options) == 0
  assert imread(folders / 'shown' / 'a.png').mean() > 10
  assert not (folders / 'found' / 'errors').exists()


@pytest.mark.parametrize(
  ('spoil', 'message'),
  [
    (lambda f: (f / 'found' / 'b.tif').unlink(), 'no prediction for 1 of 2'),
    (lambda f: (f / 'found' / 'b.tif').write_bytes(b'x'), 'b.tif'),
    (
      lambda f: formats.write_labels(
        f / 'found' / 'b.tif', np.ones((3, 4), int)
      ),
      '(3, 4)',
    ),
    (lambda f: (f / 'true').rename(f / 'gone'), 'true: no such folder'),
  ],
)
def test_folders_that_do_not_fit_are_refused(
  monkeypatch, capsys, folders, spoil, message
):
  spoil(folders)
  assert evaluate(monkeypatch, folders) == 2
  assert message in capsys.readouterr().err
