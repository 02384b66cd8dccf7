"""BioImage.IO packages: its own test passes, without any network."""

import json
import socket
import zipfile

import numpy as np
import pytest
import quick
from test_onnx import tiny_model
from tiny_networks import keep_few_blocks

from cellseg_jax.export import agreement
from cellseg_jax.inference.predict import maps_of_normalized

bioimage = pytest.importorskip(
  'cellseg_jax.export.bioimage', reason="needs the extra 'export'"
)
TEST_MODEL = bioimage.core.test_model


@pytest.fixture(autouse=True)
def _offline_and_quickly(monkeypatch):
  def refuse(*arguments, **options):
    raise AssertionError('something reached for the network')

  monkeypatch.setattr(socket.socket, 'connect', refuse)
  monkeypatch.setattr(socket, 'getaddrinfo', refuse)
  keep_few_blocks(monkeypatch)
  monkeypatch.setattr(agreement, '_maps', quick.jit(maps_of_normalized))
  monkeypatch.setattr(agreement, 'SHAPE', (45, 67))


def test_a_package_passes_its_test_and_runs(tmp_path, monkeypatch):
  summaries = []

  def test_model(*arguments, **options):
    summaries.append(TEST_MODEL(*arguments, **options))
    return summaries[-1]

  monkeypatch.setattr(bioimage.core, 'test_model', test_model)
  model = tiny_model(
    data={'channels': 2, 'resample': 0.7},
    head='skips',
    maps='foreground,distance,centre',
  )
  path = tmp_path / 'model.zip'
  found = bioimage.export_bioimageio(
    model, path, license='CC-BY-4.0', author='A. Person'
  )
  assert [p.name for p in tmp_path.iterdir()] == ['model.zip']
  assert found.worst < agreement.BOUND
  assert found.worst < found.from_raw < 1
  assert [summary.status for summary in summaries] == ['passed']
  raw = np.random.default_rng(0).normal(500, 90, (1, 2, 51, 40))
  raw = raw.astype(np.float32)
  ours = agreement.maps_of_pixels(model, bioimage.scale_range(model, raw))
  assert agreement.worst_difference(ours, bioimage.run(path, raw)) < 1e-5
  check_content(path)


def check_content(path):
  with zipfile.ZipFile(path) as file:
    text = {
      name: file.read(name).decode()
      for name in ('rdf.yaml', 'README.md', 'card.json')
    }
    assert {'cover.png', 'weights.onnx', 'image.npy'} <= set(file.namelist())
  for word in ('CC-BY-4.0', 'A. Person', 'scale_range', 'max_percentile: 99.8'):
    assert word in text['rdf.yaml']
  assert 'differs' in text['README.md']
  assert '# Validation' in text['README.md']
  assert json.loads(text['card.json'])['resample'] == 0.7


def test_what_the_description_forbids_is_refused(tmp_path):
  path = tmp_path / 'model.zip'
  with pytest.raises(bioimage.PackageError, match=r"license: found 'mine'"):
    bioimage.export_bioimageio(tiny_model(), path, license='mine')
  assert list(tmp_path.iterdir()) == []


def test_a_package_that_differs_is_not_written(tmp_path, monkeypatch):
  model, other = tiny_model(0), tiny_model(1)
  build = bioimage.onnx_graph.build
  monkeypatch.setattr(bioimage.onnx_graph, 'build', lambda _: build(other))
  with pytest.raises(agreement.AgreementError):
    bioimage.export_bioimageio(model, tmp_path / 'model.zip')
  assert list(tmp_path.iterdir()) == []
