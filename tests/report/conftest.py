"""A run that was not trained, and the page of it."""

import dataclasses
import json

import numpy as np
import pytest
from tiny_networks import LINE, use_a_line
from tiny_sets import cells

from cellseg_jax import serialization
from cellseg_jax.config import Config
from cellseg_jax.datasets.labelled_image import LabelledImage
from cellseg_jax.datasets.load import Splits
from cellseg_jax.images import formats
from cellseg_jax.inference import batch, files
from cellseg_jax.inference.predict import Model
from cellseg_jax.report.run import write_report
from cellseg_jax.training.results import evaluate_step, Evaluated

HOSTILE = '<script src="https://example.org/x.js"></script>&"\'.tif'


def labelled(seed, name, held=False):
  """Bright discs; of the labels one is merged, one extra and one missed."""
  image, labels = cells(seed)
  labels = labels.astype(np.int32)
  image = image.copy()
  image[labels == 2] = 20  # Labelled, but not to be seen.
  labels[labels == 4] = 0
  valid = np.ones(labels.shape, bool)
  if held:
    valid[:, 40:] = False
  return LabelledImage(name, image, labels, valid)


@pytest.fixture(autouse=True)
def network(monkeypatch):
  """The network is a line, in these tests alone."""
  use_a_line(monkeypatch)


@pytest.fixture
def hostile():
  """A name that would be markup."""
  return HOSTILE


@pytest.fixture(scope='session')
def evaluated():
  """The model of a line, on tiny images, and what it is worth."""
  config = serialization.replace(
    Config(),
    training={'steps': 20},
    decoding={'min_area': 5, 'threshold': 0.6},
  )
  splits = Splits(
    train=(labelled(0, 'a'), labelled(1, HOSTILE, held=True)),
    validation=(
      labelled(2, HOSTILE),
      dataclasses.replace(labelled(3, 'held', held=True)),
    ),
    validation_source="split 'validation'",
    warnings=('a.tif: 2 labels smaller than 30 pixels',),
    digest='',
    files={},
  )
  with pytest.MonkeyPatch.context() as patch:
    use_a_line(patch)
    model = Model(LINE, {}, config)
    found = Evaluated(model, evaluate_step(model, 20, splits), splits)
    assert len(found.looks) == 2
  return found


@pytest.fixture(scope='session')
def page(tmp_path_factory, evaluated):
  """The page of a finished run."""
  workdir = tmp_path_factory.mktemp('report') / 'my run'
  workdir.mkdir()
  scores = {'roc_auc': 0.9, 'f1': 0.8, 'mean_f1': 0.7, 'dice': 0.9}
  lines = [
    {
      'step': step,
      'loss': 1 / step,
      'learning_rate': 1e-3,
      'images_per_second': 9.0,
    }
    for step in (10, 20)
  ]
  lines += [
    {'step': 15, 'skipped': 2},
    {
      'step': 20,
      'validation': scores,
      'training': scores,
      'peak_memory': {'host': 3 * 2**30},
    },
  ]
  text = ''.join(json.dumps(line) + '\n' for line in lines)
  (workdir / 'metrics.jsonl').write_text(text)
  return write_report(workdir, evaluated)


@pytest.fixture
def line_model():
  """A model that takes bright pixels for cells."""
  config = serialization.replace(Config(), decoding={'min_area': 5})
  return Model(LINE, {'threshold': np.float32(0.6)}, config)


@pytest.fixture
def segmented(tmp_path, line_model):
  """A folder of outputs of six images and a file that failed."""
  (tmp_path / 'images').mkdir()
  jobs = []
  for number in range(6):
    image = cells(number)[0]
    if number == 3:  # One disc alone.
      image[:, 20:], image[20:] = 20, 20
    if number == 4:  # Six discs are one.
      image[7:45, 7:30] = 110
    path = tmp_path / 'images' / f'{number} <b>.tif'
    formats.write_labels(path, image)
    jobs.append(batch.Job(path, path.stem))
  broken = tmp_path / 'images' / 'broken.png'
  broken.write_bytes(b'no image')
  jobs.append(batch.Job(broken, 'broken'))
  out = tmp_path / 'out'
  out.mkdir()
  list(batch.segment_files(line_model, jobs, out, files.Options(), ''))
  return out
