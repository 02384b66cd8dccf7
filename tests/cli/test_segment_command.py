"""`cellseg segment`: every file gets labels, a table, and a status."""

import csv
import errno
import json
import re
import shutil
import sys

import imageio.v3 as iio
import jax.numpy as jnp
import numpy as np
from pyarrow import parquet
import pytest
import quick
from skimage.measure import label as connected
import tifffile
from tiny_networks import use_a_line
from tiny_sets import cells
import zarr

from cellseg_jax.cli import main
from cellseg_jax.cluster import connect
from cellseg_jax.config import Config
from cellseg_jax.images import label_files
from cellseg_jax.inference import files, load, predict, predict_large
from cellseg_jax.inference.predict import Model
from cellseg_jax.serialization import replace

MAPS = quick.jit(predict.predict_maps.__wrapped__)
LOAD_MODEL = load.load_model
TILE_MAPS = quick.jit(predict_large._tile_maps.__wrapped__)


def line_model(**data):
  """A model that takes bright pixels for cells."""
  config = replace(
    Config(), decoding={'min_area': 5, 'rim': 0}, data={'diameter': 13.0} | data
  )
  params = {'slope': jnp.float32(8), 'offset': jnp.float32(-4)}
  return Model({'params': params}, {'threshold': jnp.float32(0.5)}, config)


@pytest.fixture(autouse=True)
def model(monkeypatch):
  use_a_line(monkeypatch)
  monkeypatch.setattr(predict, 'predict_maps', MAPS)
  monkeypatch.setattr(predict_large, '_tile_maps', TILE_MAPS)
  result = line_model()
  monkeypatch.setattr(load, 'load_model', lambda folder: result)
  return result


@pytest.fixture
def segment(monkeypatch, capsys, tmp_path):
  """Runs the command; returns exit code and both outputs."""

  def call(*arguments, out='out'):
    command = ['cellseg', 'segment', '--model', 'run', '--out']
    command += [str(tmp_path / out), *map(str, arguments)]
    monkeypatch.setattr(sys, 'argv', command)
    code = main.run()
    return code, *capsys.readouterr()

  return call


@pytest.fixture
def images(tmp_path):
  folder = tmp_path / 'images'
  folder.mkdir()
  for seed, name in enumerate('abc'):
    tifffile.imwrite(folder / f'{name}.tif', cells(seed)[0])
  return folder


def lines(out):
  """The log without what differs from run to run."""
  text = (out / 'segment.jsonl').read_text()
  found = [json.loads(line) for line in text.splitlines()]
  for line in found:
    assert line.pop('seconds') >= 0
  return found


def rows(out):
  with open(out / 'cells.csv') as file:
    return list(csv.DictReader(file))


def contents(folder):
  """All outputs, byte by byte, but for log, states and Parquet."""
  return {
    str(path.relative_to(folder)): path.read_bytes()
    for path in sorted(folder.rglob('*'))
    if path.is_file()
    and path.suffix != '.parquet'
    and '.segment' not in path.parts
    and path.name != 'segment.jsonl'
  }


def test_every_file_has_labels_a_table_and_a_status(segment, images, tmp_path):
  iio.imwrite(images / 'd.png', cells(3)[0])
  code, stdout, stderr = segment(images)
  out = tmp_path / 'out'
  assert (code, stderr) == (0, '')
  expected = connected(cells(0)[1] > 0)
  for name in 'abcd':
    labels = tifffile.imread(out / f'{name}.tif')
    np.testing.assert_array_equal(labels, expected)
    assert f'{name}.tif: {expected.max()} cells, ' in stdout
  assert [line['status'] for line in lines(out)] == ['ok'] * 4
  assert [line['cells'] for line in lines(out)] == [expected.max()] * 4
  table = rows(out)
  assert [row['file'] for row in table[:: expected.max()]] == [
    'a.tif',
    'b.tif',
    'c.tif',
    'd.png',
  ]
  assert len(table) == 4 * expected.max()
  areas = np.bincount(expected.ravel())[1:]
  found = [float(row['area_px']) for row in table[: expected.max()]]
  np.testing.assert_array_equal(found, areas)
  read = parquet.read_table(out / 'cells.parquet')
  assert read.column('area_px').to_pylist()[: areas.size] == found


def test_only_what_is_missing_changed_or_failed_is_done_again(
  segment, images, tmp_path
):
  out = tmp_path / 'out'
  (images / 'bad.tif').write_bytes(b'II*\0')
  assert segment(images)[0] == 1
  before = {path: path.stat().st_mtime_ns for path in out.glob('*.tif')}
  code, stdout, _ = segment(images)
  assert code == 1
  assert '3 of 4 files are done already; 1 are missing, changed or ' in stdout
  shutil.copy(images / 'a.tif', images / 'bad.tif')
  tifffile.imwrite(images / 'a.tif', 0 * cells(0)[0])
  (out / 'b.tif').unlink()
  code, stdout, _ = segment(images)
  assert code == 0
  assert '1 of 4 files are done already' in stdout
  changed = [
    path.name
    for path in sorted(out.glob('*.tif'))
    if path.stat().st_mtime_ns != before.get(path)
  ]
  assert changed == ['a.tif', 'b.tif', 'bad.tif']
  assert tifffile.imread(out / 'a.tif').max() == 0
  assert [(x['file'][-5:], x['status']) for x in lines(out)] == [
    ('a.tif', 'ok'),
    ('b.tif', 'ok'),
    ('d.tif', 'ok'),
    ('c.tif', 'ok'),
  ]
  assert {row['file'] for row in rows(out)} == {'b.tif', 'bad.tif', 'c.tif'}
  assert 'done already' not in segment('--drop-border', images)[1]


def test_a_file_that_fails_leaves_nothing_of_its_earlier_form(
  segment, images, tmp_path
):
  assert segment('--save', 'overlay', images)[0] == 0
  out = tmp_path / 'out'
  assert (out / 'overlay' / 'b.png').exists()
  (images / 'b.tif').write_bytes(b'II*\0')
  assert segment('--save', 'overlay', images)[0] == 1
  assert not (out / 'overlay' / 'b.png').exists()
  assert not (out / 'b.tif').exists()
  assert {row['file'] for row in rows(out)} == {'a.tif', 'c.tif'}


def test_a_file_that_changes_while_it_is_segmented_is_done_again(
  segment, images, tmp_path, monkeypatch
):
  find = files.find

  def overtaken(model, loaded, options):
    if loaded.path.name == 'b.tif':
      tifffile.imwrite(loaded.path, 0 * cells(0)[0])
    return find(model, loaded, options)

  with monkeypatch.context() as patch:
    patch.setattr(files, 'find', overtaken)
    assert segment(images)[0] == 0
  assert tifffile.imread(tmp_path / 'out' / 'b.tif').max() > 0
  code, stdout, _ = segment(images)
  assert code == 0
  assert '2 of 3 files are done already' in stdout
  assert tifffile.imread(tmp_path / 'out' / 'b.tif').max() == 0


def test_an_interrupted_run_ends_as_one_that_was_not(
  segment, images, tmp_path, monkeypatch
):
  for name in 'defg':
    tifffile.imwrite(images / f'{name}.tif', cells(ord(name))[0])
  assert segment(images, out='whole')[0] == 0
  find, calls = files.find, []

  def interrupted(*arguments):
    calls.append(0)
    if len(calls) % 3 == 0:
      raise KeyboardInterrupt
    return find(*arguments)

  monkeypatch.setattr(files, 'find', interrupted)
  codes = []
  while not codes or codes[-1]:
    codes.append(segment(images)[0])
    assert len(codes) < 9
  assert codes[:2] == [130, 130]
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')
  assert lines(tmp_path / 'out') == lines(tmp_path / 'whole')


def test_shards_add_up(segment, images, tmp_path):
  assert segment(images, out='whole')[0] == 0
  assert segment('--shard', '2/2', images)[0] == 0
  assert [line['file'][-5:] for line in lines(tmp_path / 'out')] == ['b.tif']
  tifffile.imread(tmp_path / 'out' / 'b.tif')
  assert not (tmp_path / 'out' / 'a.tif').exists()
  assert segment('--shard', '1/2', images)[0] == 0
  assert contents(tmp_path / 'out') == contents(tmp_path / 'whole')
  assert lines(tmp_path / 'out') == lines(tmp_path / 'whole')


def test_a_movie_keeps_its_axes_and_pixel_size(segment, tmp_path):
  movie = np.stack([cells(0)[0], cells(1)[0], 0 * cells(1)[0]])
  tifffile.imwrite(
    tmp_path / 'movie.ome.tif',
    movie,
    metadata={
      'axes': 'TYX',
      'PhysicalSizeX': 0.5,
      'PhysicalSizeXUnit': 'µm',
      'PhysicalSizeY': 0.5,
      'PhysicalSizeYUnit': 'µm',
    },
  )
  assert segment(tmp_path / 'movie.ome.tif')[0] == 0
  with tifffile.TiffFile(tmp_path / 'out' / 'movie.tif') as file:
    assert file.series[0].axes == 'TYX'
    labels = file.asarray()
    assert 'PhysicalSizeX="0.5"' in file.ome_metadata
  count = int(cells(0)[1].max())
  assert [frame.max() for frame in labels] == [count, count, 0]
  table = rows(tmp_path / 'out')
  assert [row['frame'] for row in table] == ['0'] * count + ['1'] * count
  assert float(table[0]['area_um2']) == float(table[0]['area_px']) / 4


def test_labels_as_zarr(segment, images, tmp_path):
  assert segment('--format', 'zarr', images)[0] == 0
  group = zarr.open_group(tmp_path / 'out' / 'a.zarr', mode='r')
  arrays = [value for _, value in group.arrays()]
  np.testing.assert_array_equal(arrays[0][:], connected(cells(0)[1] > 0))


def test_what_is_saved_on_request(segment, images, tmp_path):
  code, _, stderr = segment(
    '--save', 'overlay,probability,roi,geojson,coco', images / 'a.tif'
  )
  assert (code, stderr) == (0, '')
  out = tmp_path / 'out'
  assert iio.imread(out / 'overlay' / 'a.png').shape == (60, 80, 3)
  probability = tifffile.imread(out / 'probability' / 'a.tif')
  np.testing.assert_array_equal(probability > 0.5, cells(0)[1] > 0)
  count = int(cells(0)[1].max())
  for path, entries in (
    ('geojson/a.geojson', 'features'),
    ('coco/a.json', 'annotations'),
  ):
    assert len(json.loads((out / path).read_text())[entries]) == count
  assert (out / 'roi' / 'a.zip').stat().st_size > 100 * count


def test_large_images_have_the_labels_and_tables_of_small_ones(
  segment, tmp_path, monkeypatch
):
  image = cells(0, (150, 190))[0]
  tifffile.imwrite(
    tmp_path / 'a.tif',
    np.stack([image, image[::-1]]),
    ome=True,
    metadata={'axes': 'TYX'},
  )
  arguments = ('--drop-border', '--max-area', '140', tmp_path / 'a.tif')
  assert segment(*arguments, out='whole')[0] == 0
  monkeypatch.setattr(files, 'WHOLE', 0)
  monkeypatch.setattr(files, 'HELD', 0)
  assert segment(*arguments)[0] == 0
  labels = [tifffile.imread(tmp_path / o / 'a.tif') for o in ('out', 'whole')]
  np.testing.assert_array_equal(*labels)
  assert labels[0].max() > 20
  for mine, theirs in zip(
    rows(tmp_path / 'out'), rows(tmp_path / 'whole'), strict=True
  ):
    for name in theirs:
      try:
        assert float(mine[name]) == pytest.approx(float(theirs[name]))
      except ValueError:
        assert mine[name] == theirs[name]


def test_filters_reach_the_final_labels(segment, tmp_path):
  image = np.zeros((60, 80), np.uint8)
  image[0:9, 5:14] = image[20:26, 20:26] = image[40:52, 40:52] = 200
  image[44:47, 44:47] = 0
  tifffile.imwrite(tmp_path / 'a.tif', image)

  def areas(*options):
    assert segment(*options, tmp_path / 'a.tif')[0] == 0
    return np.bincount(tifffile.imread(tmp_path / 'out' / 'a.tif').ravel())[1:]

  # The decoder itself fills holes.
  np.testing.assert_array_equal(areas(), [81, 36, 144])
  np.testing.assert_array_equal(areas('--min-area', '50'), [81, 0, 144])
  np.testing.assert_array_equal(areas('--max-area', '100'), [81, 36])
  np.testing.assert_array_equal(areas('--drop-border'), [0, 36, 144])
  assert not areas('--min-confidence', '1').size


def test_decoder_settings_can_be_given(segment, tmp_path):
  image = np.zeros((40, 40), np.uint8)
  image[5:25, 5:25] = 110  # Scaled to its range: 0.43 in the middle's 1.
  image[10:20, 10:20] = 255
  tifffile.imwrite(tmp_path / 'a.tif', image)

  def area(*options):
    assert segment(*options, tmp_path / 'a.tif')[0] == 0
    return np.count_nonzero(tifffile.imread(tmp_path / 'out' / 'a.tif'))

  assert area() == 100
  assert area('--decoding', 'threshold=0.2') == 400


def test_holes_are_filled_on_request(segment, tmp_path, model, monkeypatch):
  config = replace(model.config, decoding={'fill_holes': False})
  holey = model.replace(config=config)
  monkeypatch.setattr(load, 'load_model', lambda folder: holey)
  image = np.zeros((60, 80), np.uint8)
  image[40:52, 40:52] = 200
  image[44:47, 44:47] = 0
  tifffile.imwrite(tmp_path / 'a.tif', image)
  for options, area in (((), 135), (('--fill-holes',), 144)):
    assert segment(*options, tmp_path / 'a.tif')[0] == 0
    assert (tifffile.imread(tmp_path / 'out' / 'a.tif') > 0).sum() == area


def test_cells_of_another_size_are_remarked_on_and_scaled(segment, tmp_path):
  image = np.kron(cells(0)[0], np.ones((3, 3), np.uint8))
  tifffile.imwrite(tmp_path / 'a.tif', image)
  code, _, stderr = segment(tmp_path / 'a.tif')
  assert code == 0
  assert (
    'a.tif: the median cell is 40 pixels across, 13 were expected' in stderr
  )
  code, _, stderr = segment('--diameter', '39', tmp_path / 'a.tif')
  assert (code, stderr) == (0, '')
  labels = tifffile.imread(tmp_path / 'out' / 'a.tif')
  assert labels.shape == image.shape
  truth = np.kron(cells(0)[1], np.ones((3, 3), np.uint16))
  assert np.mean((labels > 0) == (truth > 0)) > 0.98


def write(path, array):
  tifffile.imwrite(path, array)


FAULTY = {
  'empty.tif': (lambda path: path.write_bytes(b''), 'the file is empty'),
  'cut.tif': (
    lambda path: (
      write(path, cells(0)[0]),
      path.write_bytes(path.read_bytes()[:2000]),
    ),
    'cut off, damaged',
  ),
  'half.png': (
    lambda path: (
      iio.imwrite(path, cells(0)[0]),
      path.write_bytes(path.read_bytes()[:900]),
    ),
    'cut off, damaged',
  ),
  'text.png': (lambda path: path.write_text('no image'), 'cut off, damaged'),
  'notes.xyz': (lambda path: path.write_text('?'), 'cannot read'),
  'rgb.png': (
    lambda path: iio.imwrite(path, np.zeros((40, 40, 3), np.uint8)),
    '--rgb',
  ),
  'nan.tif': (
    lambda path: write(path, np.full((40, 40), np.nan, np.float32)),
    'NaN or infinite, the first found at row 0, column 0',
  ),
  'stack.tif': (
    lambda path: write(path, np.zeros((5, 40, 40), np.uint8)),
    '--axes',
  ),
}


def test_a_faulty_file_is_a_line_and_stops_no_other(segment, images, tmp_path):
  for name, (make, _) in FAULTY.items():
    make(images / name)
  # Given by name: in folders, files of unknown kinds are not images.
  code, stdout, stderr = segment(images, images / 'notes.xyz')
  assert code == 1
  assert stdout.count(' cells, ') == 3
  *single, last = stderr.splitlines()
  assert len(single) == len(FAULTY)
  assert last.startswith(f'{len(FAULTY)} of {len(FAULTY) + 3} files failed: ')
  reasons = {line['file']: line['reason'] for line in lines(tmp_path / 'out')}
  for name, (_, reason) in FAULTY.items():
    assert reason in reasons[str(images / name)], name
    assert name in last


@pytest.mark.parametrize(
  'image',
  [
    np.full((40, 50), 700, np.uint16),
    np.zeros((1, 1), np.uint8),
    np.zeros((31, 5), np.float32),
    cells(0)[0].astype(np.float64) / 7 - 3,
  ],
)
def test_odd_images_are_segmented(segment, tmp_path, image):
  tifffile.imwrite(tmp_path / 'a.tif', image)
  assert segment(tmp_path / 'a.tif')[0] == 0
  labels = tifffile.imread(tmp_path / 'out' / 'a.tif')
  assert labels.shape == image.shape
  assert labels.max() == (0 if image.std() == 0 else cells(0)[1].max())


def test_a_full_disk_is_a_reason_and_leaves_no_half_file(
  segment, images, tmp_path, monkeypatch
):
  imwrite = tifffile.imwrite

  def full(path, *arguments, **options):
    if tmp_path / 'out' in path.parents:
      path.write_bytes(b'half')
      raise OSError(errno.ENOSPC, 'No space left on device')
    return imwrite(path, *arguments, **options)

  monkeypatch.setattr(label_files.tifffile, 'imwrite', full)
  code, _, stderr = segment('--save', 'overlay', images)
  assert code == 1
  assert stderr.count('.tif: failed: [Errno 28] No space left on dev') == 3
  out = tmp_path / 'out'
  left = {path.name for path in out.rglob('*.*') if path.is_file()}
  assert left == {
    'segment.jsonl',
    'cells.csv',
    'cells.parquet',
    'a.json',
    'b.json',
    'c.json',
  }
  assert not rows(out)


@pytest.mark.parametrize(
  ('arguments', 'message'),
  [
    (['absent.tif'], r'absent\.tif: no such file or folder'),
    (['images', '--out', 'images'], 'lies in .*images, which is to be segm'),
    (['images', '--out', 'images/out'], 'lies in .*images, which is to be se'),
    (['images', 'more/a.tif'], r'would both be written to .*a\.tif'),
    (['images', '--out', 'images/a.tif'], 'lies in'),
    (['images', '--out', 'more/a.tif/x'], 'Not a directory'),
    (['more/empty'], 'no image in this folder'),
    (['images', '--axes', 'YXQ'], 'axes'),
    (['images', '--z', 'first'], "'first'"),
    (['images', '--diameter', '-3'], '--diameter must be positive'),
    (['images', '--dask', 'nowhere'], 'address of a scheduler .* nowhere'),
    (['images', '--dask', '127.0.0.1:1'], 'no cluster at 127.0.0.1:1'),
    (['images', '--decoding', 'height=0.1'], "'height'; it has threshold"),
    (['images', '--min-area', '9', '--max-area', '5'], 'no cell would be left'),
  ],
)
def test_what_cannot_be_begun_is_refused(
  segment, images, tmp_path, monkeypatch, arguments, message
):
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'more' / 'empty').mkdir(parents=True)
  shutil.copy(images / 'a.tif', tmp_path / 'more')
  monkeypatch.setattr(connect, '_SECONDS', 0.2)
  code, stdout, stderr = segment(*arguments)
  assert (code, stdout) == (2, '')
  assert stderr.startswith('error: ')
  assert stderr.count('\n') == 1
  assert re.search(message, stderr)


@pytest.mark.parametrize(
  'arguments',
  [
    ['--shard', '3/2'],
    ['--shard', '2'],
    ['--save', 'mesh'],
    ['--decoding', 'depth'],
    ['--decoding', 'depth=2'],
  ],
)
def test_faulty_flags_are_refused(segment, images, arguments):
  with pytest.raises(SystemExit, match='2'):
    segment(images, *arguments)


@pytest.mark.parametrize(
  ('config', 'checkpoints', 'message'),
  [
    (None, False, 'no trained model here (there is no config.json)'),
    ('{}', False, 'no trained model here (there is no checkpoints)'),
    ('{}', True, 'training has not saved a checkpoint yet'),
    ('{"model": {"of_tomorrow": 1}}', True, 'of_tomorrow'),
    ('{"model"', True, 'config.json'),
  ],
)
def test_models_that_cannot_be_loaded(
  segment, images, tmp_path, monkeypatch, config, checkpoints, message
):
  monkeypatch.setattr(load, 'load_model', LOAD_MODEL)
  monkeypatch.chdir(tmp_path)
  (tmp_path / 'run').mkdir()
  if config:
    (tmp_path / 'run' / 'config.json').write_text(config)
  if checkpoints:
    (tmp_path / 'run' / 'checkpoints').mkdir()
  code, _, stderr = segment(images)
  assert code == 2
  assert message in stderr
  assert stderr.count('\n') == 1
  assert not (tmp_path / 'out').exists()
