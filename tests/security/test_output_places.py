"""No name and no link makes a program write outside its folder of outputs."""

import json
import pathlib
import sys
import tempfile

from hypothesis import given, settings
from hypothesis import strategies as st
import jax.numpy as jnp
import numpy as np
import pytest
import quick
import tifffile
from tiny_networks import use_a_line
from tiny_sets import cells, write_folder

from cellseg_jax.atomic import replacing
from cellseg_jax.cli import main
from cellseg_jax.config import Config, ConfigError, DataConfig
from cellseg_jax.datasets.public import SBsst265
from cellseg_jax.images import exports, tables
from cellseg_jax.inference import load, predict
from cellseg_jax.inference.predict import Model
from cellseg_jax.inside import inside, open_no_link, OutsideError
from cellseg_jax.report.predictions import report_predictions
from cellseg_jax.serialization import replace
from cellseg_jax.training.checkpoints import Checkpoints
from cellseg_jax.training.lock import locked
from cellseg_jax.training.metrics_log import MetricsLog
from cellseg_jax.training.record import Record

MAPS = quick.jit(predict.predict_maps.__wrapped__)


@pytest.fixture
def outside(tmp_path):
  """A folder of somebody's own, and what is in it."""
  folder = tmp_path / 'outside'
  folder.mkdir()
  (folder / 'a.tif').write_text('mine')
  (folder / 'kept').write_text('mine')
  yield folder
  assert sorted(p.name for p in folder.iterdir()) == ['a.tif', 'kept']
  assert (folder / 'kept').read_text() == 'mine'
  assert (folder / 'a.tif').read_text() == 'mine'


@pytest.fixture
def segment(monkeypatch, tmp_path, capsys):
  """Segments the image a.tif into out/; returns exit code and errors."""
  use_a_line(monkeypatch)
  monkeypatch.setattr(predict, 'predict_maps', MAPS)
  params = {'slope': jnp.float32(8), 'offset': jnp.float32(-4)}
  config = replace(Config(), decoding={'min_area': 5, 'rim': 0})
  model = Model({'params': params}, {'threshold': jnp.float32(0.5)}, config)
  monkeypatch.setattr(load, 'load_model', lambda folder: model)
  (tmp_path / 'out').mkdir()
  image = tmp_path / 'a.tif'
  tifffile.imwrite(image, cells(0)[0])

  def call(*arguments, path=image):
    command = ['cellseg', 'segment', '--model', 'run', '--out']
    command += [str(tmp_path / 'out'), str(path), *arguments]
    monkeypatch.setattr(sys, 'argv', command)
    return main.run(), capsys.readouterr().err

  return call


BAD = ['', '.', '..', '../a', 'a/../../b', '/etc/passwd', 'a/..', './../a']


@pytest.mark.parametrize('name', BAD)
def test_names_that_lead_out_are_refused(tmp_path, name):
  with pytest.raises(OutsideError):
    inside(tmp_path, name)


def test_names_within_are_not(tmp_path):
  for name in ('a.tif', 'roi/a.zip', '..a', 'a..b', ' ', '~'):
    assert inside(tmp_path, name) == tmp_path / name
  # The folder itself may be a link: that is its user's.
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'link').symlink_to('folder')
  assert inside(tmp_path / 'link', 'a/b') == tmp_path / 'link' / 'a' / 'b'
  (tmp_path / 'folder' / 'within').symlink_to('.')
  inside(tmp_path / 'folder', 'within/a')


@settings(max_examples=200, deadline=None, database=None)
@given(st.text('ab./\\~ \0', max_size=12))
def test_whatever_the_name_the_place_is_within(name):
  with tempfile.TemporaryDirectory() as folder:
    try:
      path = inside(folder, name)
    except ValueError:
      return
    assert path.resolve() != pathlib.Path(folder).resolve()
    assert path.resolve().is_relative_to(pathlib.Path(folder).resolve())


def test_links_that_lead_out_are_refused(tmp_path, outside):
  (tmp_path / 'folder').mkdir()
  (tmp_path / 'folder' / 'roi').symlink_to(outside)
  with pytest.raises(OutsideError, match='symbolic link'):
    inside(tmp_path / 'folder', 'roi/a.zip')
  (tmp_path / 'folder' / 'log').symlink_to(outside / 'kept')
  for mode in ('w', 'a'):
    with pytest.raises(OSError, match='is a symbolic link'):
      open_no_link(tmp_path / 'folder' / 'log', mode)
  with replacing(tmp_path / 'folder' / 'log') as partial:
    partial.write_text('new')
  assert not (tmp_path / 'folder' / 'log').is_symlink()
  # A link to a folder is replaced and not followed.
  (tmp_path / 'folder' / 'a.zarr').symlink_to(outside)
  with replacing(tmp_path / 'folder' / 'a.zarr') as partial:
    partial.mkdir()
  assert not (tmp_path / 'folder' / 'a.zarr').is_symlink()


@pytest.mark.parametrize(
  'name', ['overlay', 'probability', 'roi', 'geojson', 'coco', '.cells']
)
def test_folders_of_outputs_that_are_links_fail(
  segment, tmp_path, outside, name
):
  (tmp_path / 'out' / name).symlink_to(outside)
  kinds = 'overlay,probability,roi,geojson,coco'
  code, said = segment('--save', kinds)
  assert code == 1
  assert 'leads out of' in said
  assert not (tmp_path / 'out' / 'a.tif').exists()


@pytest.mark.parametrize('name', ['segment.jsonl', '.segment', '.segment/lock'])
def test_records_that_are_links_fail(segment, tmp_path, outside, name):
  path = tmp_path / 'out' / name
  path.parent.mkdir(exist_ok=True)
  target = outside if name == '.segment' else outside / 'kept'
  path.symlink_to(target)
  code, said = segment()
  assert code in (0, 1, 2)
  assert code == 0 or 'link' in said


def test_reports_that_are_links_fail(segment, tmp_path, outside):
  assert segment()[0] == 0
  (tmp_path / 'out' / 'report').symlink_to(outside)
  with pytest.raises(OutsideError, match='report'):
    report_predictions(tmp_path / 'out')


def test_label_images_that_are_links_are_replaced(segment, tmp_path, outside):
  (tmp_path / 'out' / 'a.tif').symlink_to(outside / 'a.tif')
  (tmp_path / 'out' / 'cells.csv').symlink_to(outside / 'kept')
  assert segment() == (0, '')
  assert not (tmp_path / 'out' / 'a.tif').is_symlink()
  assert not (tmp_path / 'out' / 'cells.csv').is_symlink()


def record(outputs, **values):
  ours = {
    'file': 'a',
    'status': 'ok',
    'cells': 1,
    'seconds': 0.5,
    'reason': '',
    'warning': '',
    'made_from': '',
    'outputs': outputs,
  }
  return ours | values


@pytest.mark.parametrize(
  'content',
  [
    record(['.']),
    record(['../outside/kept']),
    record(['..']),
    record(['.segment']),
    record(['.segment/b.json']),
    record(['b.tif']),
    record(['ab.tif']),
    record(['linked/a.tif']),
    record(['roi/a.zip']),
    record([1]),
    record('a.tif'),
    record([], file=3),
    record([], cells='many'),
    [],
    3,
    'x',
  ],
)
def test_only_outputs_of_an_image_are_removed_for_it(
  segment, tmp_path, outside, content
):
  out = tmp_path / 'out'
  (out / 'linked').symlink_to(outside)
  (out / 'roi').symlink_to(outside)
  (out / 'b.tif').write_text('another')
  (out / 'ab.tif').write_text('another')
  (out / '.segment').mkdir()
  (out / '.segment' / 'a.json').write_text(json.dumps(content))
  (out / '.segment' / 'b.json').write_text('[' * 10**5)
  image = tmp_path / 'a.tif'
  image.write_text('damaged')
  code, said = segment()
  assert code == 1
  assert 'cannot be read' in said
  for name in ('b.tif', 'ab.tif', '.segment/b.json'):
    assert (out / name).exists()


def test_outputs_of_an_image_that_failed_are_removed(segment, tmp_path):
  assert segment('--format', 'zarr', '--save', 'roi')[0] == 0
  out = tmp_path / 'out'
  assert (out / 'a.zarr').is_dir()
  (tmp_path / 'a.tif').write_text('damaged')
  assert segment('--format', 'zarr', '--save', 'roi')[0] == 1
  assert not (out / 'a.zarr').exists()
  assert list((out / 'roi').iterdir()) == []


@pytest.mark.parametrize('name', ['.ome.tif', '..ome.tif', '...ome.tif'])
def test_images_of_odd_names_write_within(segment, tmp_path, name):
  image = tmp_path / 'in' / name
  image.parent.mkdir()
  tifffile.imwrite(image, cells(0)[0], ome=False)
  before = {p.name for p in tmp_path.iterdir()}
  segment('--save', 'roi', path=image)
  assert {p.name for p in tmp_path.iterdir()} == before


def test_entries_of_roi_archives_are_numbers(tmp_path):
  import zipfile

  exports.write_rois(tmp_path / 'a.zip', cells(0)[1])
  with zipfile.ZipFile(tmp_path / 'a.zip') as archive:
    names = archive.namelist()
  assert names
  assert all(name.removesuffix('.roi').isdecimal() for name in names)


@pytest.mark.parametrize('name', ['', '..', 'a/b', '../b', '/b', 'a\\b'])
def test_parts_of_tables_have_plain_names(tmp_path, name):
  with pytest.raises(ValueError, match='not the name of a file'):
    tables.part_path(tmp_path, name)


def test_pictures_of_errors_are_not_written_through_links(
  monkeypatch, tmp_path, outside, capsys
):
  _, labels = cells(0)
  for folder in ('true', 'sent'):
    (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / folder / 'kept.tif', labels)
  words = ['--labels', tmp_path / 'true', '--predictions', tmp_path / 'sent']
  monkeypatch.setattr(sys, 'argv', ['cellseg', 'evaluate', *map(str, words)])
  errors = tmp_path / 'sent' / 'errors'
  errors.symlink_to(outside)
  assert main.run() == 2
  assert 'leads out of' in capsys.readouterr().err
  errors.unlink()
  errors.mkdir()
  (errors / 'kept.png').symlink_to(outside / 'kept')
  assert main.run() == 0
  assert not (errors / 'kept.png').is_symlink()


def test_names_in_a_list_of_images_are_names(tmp_path):
  write_folder(tmp_path, ['a'])
  for folder in ('rawimages', 'groundtruth'):
    (tmp_path / folder).mkdir()
    tifffile.imwrite(tmp_path / folder / 'a.tif', np.ones((8, 8), np.uint8))
  table = tmp_path / 'image_description.csv'
  for name in ('../images/a', str(tmp_path / 'images' / 'a'), '..', ''):
    table.write_text(f'Image_Name;Train-/Testset split\n{name};train\n')
    with pytest.raises(ConfigError, match=r'description\.csv, line 2: .*name'):
      SBsst265.listing(DataConfig(path=str(tmp_path)))
  table.write_text('Image_Name;Train-/Testset split\na;train\n')
  listing = SBsst265.listing(DataConfig(path=str(tmp_path)))
  assert [pair.name for pair in listing.splits['train']] == ['a']


def test_a_run_is_not_kept_elsewhere(tmp_path, outside):
  run = tmp_path / 'run'
  run.mkdir()
  for name in ('checkpoints', 'events', 'figures', 'report'):
    (run / name).symlink_to(outside)
    with pytest.raises(OutsideError, match=name):
      Record(run, Config(), {}).__enter__()
    (run / name).unlink()
  for name in ('.lock', 'metrics.jsonl'):
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside / 'kept')
  with pytest.raises(OSError, match='is a symbolic link'), locked(run):
    pass
  (outside / 'kept').write_text('{"step": 1}\n')
  log = MetricsLog(run / 'metrics.jsonl', 1)  # Rewritten, so no link now.
  log.write(2, loss=1.0)
  assert (outside / 'kept').read_text() == '{"step": 1}\n'
  (outside / 'kept').write_text('mine')


def test_damaged_checkpoints_are_not_moved_elsewhere(tmp_path, outside):
  folder = tmp_path / 'run' / 'checkpoints'
  for step in ('1', '2'):
    (folder / step).mkdir(parents=True)
    (folder / step / 'manifest.json').write_text('{}')
  (folder / '2' / 'new').touch()
  (tmp_path / 'run' / 'checkpoints_damaged').symlink_to(outside)
  with pytest.raises(OutsideError):
    Checkpoints(folder, 'roc_auc', print)
  assert (folder / '2').is_dir()


def test_the_paths_are_pathlibs(tmp_path):
  assert isinstance(inside(str(tmp_path), 'a'), pathlib.Path)
