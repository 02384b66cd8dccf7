"""Tables of many files: one after another, replaced, whole or not at all."""

import csv

from label_scenes import SCENES
import numpy as np
import pyarrow as pa
from pyarrow import parquet
import pytest

from cellseg_jax.images import cells, tables


def table(file, scene='blobs', channels=1, **options):
  labels = SCENES[scene]
  random = np.random.default_rng(0)
  image = random.integers(0, 4096, (*labels.shape, channels), np.uint16)
  count = len(np.unique(labels)) - 1
  return cells.measure_cells(
    labels, image, random.random(count), file=file, **options
  )


def write(out, name, measured):
  path = tables.part_path(out, name)
  tables.write_part(path, measured)
  return path


def read_csv(out):
  with (out / 'cells.csv').open(newline='', encoding='utf-8') as file:
    return list(csv.DictReader(file))


def read_parquet(out):
  return parquet.read_table(out / 'cells.parquet').to_pylist()


READERS = {str: str, int: int, float: float, bool: 'true'.__eq__}


def test_both_files_say_what_was_measured(tmp_path):
  measured = table('a, "b"/ä.tif', frame=2, pixel_size=(0.3, 0.3))
  tables.merge_parts([write(tmp_path, 'a', measured)], tmp_path)
  rows, texts = read_parquet(tmp_path), read_csv(tmp_path)
  assert len(rows) == len(texts) == measured['label'].size > 10
  for i, (row, text) in enumerate(zip(rows, texts, strict=True)):
    assert list(row) == list(text) == list(measured)
    for column in cells.columns(1):
      value = measured[column.name][i]
      assert row[column.name] == value
      assert READERS[column.kind](text[column.name]) == value


def test_files_follow_one_another_in_the_order_given(tmp_path):
  parts = [
    write(tmp_path, name, table(name, scene))
    for name, scene in (('b', 'blobs'), ('a', 'tricky'), ('c', 'noise'))
  ]
  tables.merge_parts(parts, tmp_path)
  files = [row['file'] for row in read_csv(tmp_path)]
  assert list(dict.fromkeys(files)) == ['b', 'a', 'c']
  assert files == [row['file'] for row in read_parquet(tmp_path)]


def test_a_file_that_is_done_again_replaces_its_rows(tmp_path):
  once, again = tmp_path / 'once', tmp_path / 'again'
  for out, scenes in ((once, ['tricky']), (again, ['blobs', 'tricky'])):
    other = write(out, 'other', table('other', 'noise'))
    for scene in scenes:
      part = write(out, 'a', table('a', scene))
      tables.merge_parts([part, other], out)
  for name in ('cells.csv', 'cells.parquet'):
    assert (once / name).read_bytes() == (again / name).read_bytes()


def test_numbers_of_channels_may_differ(tmp_path):
  parts = [
    write(tmp_path, name, table(name, 'tricky', channels))
    for name, channels in (('two', 2), ('one', 1), ('three', 3))
  ]
  tables.merge_parts(parts, tmp_path)
  rows = read_parquet(tmp_path)
  assert list(rows[0]) == [column.name for column in cells.columns(3)]
  for row, text in zip(rows, read_csv(tmp_path), strict=True):
    channels = {'one': 1, 'two': 2, 'three': 3}[row['file']]
    for channel in range(3):
      name = f'mean_intensity_c{channel}'
      assert (row[name] is None) == (channel >= channels)
      assert (text[name] == '') == (channel >= channels)


def test_no_cell_and_no_file(tmp_path):
  empty = cells.measure_cells(
    np.zeros((5, 5), int), np.zeros((5, 5)), np.zeros(0), file='a'
  )
  tables.merge_parts([write(tmp_path, 'a', empty)], tmp_path)
  assert read_csv(tmp_path) == read_parquet(tmp_path) == []
  header = (tmp_path / 'cells.csv').read_text().strip().split(',')
  assert [name.strip('"') for name in header] == list(empty)
  tables.merge_parts([], tmp_path)
  names = parquet.read_schema(tmp_path / 'cells.parquet').names
  assert names == [column.name for column in cells.COLUMNS]


def test_what_is_unknown_is_empty(tmp_path):
  tables.merge_parts([write(tmp_path, 'a', table('a'))], tmp_path)
  assert {row['area_um2'] for row in read_csv(tmp_path)} == {''}
  assert {row['area_um2'] for row in read_parquet(tmp_path)} == {None}


def test_a_merge_that_fails_leaves_the_old_tables(tmp_path):
  good = write(tmp_path, 'a', table('a'))
  tables.merge_parts([good], tmp_path)
  before = [(tmp_path / f'cells.{s}').read_bytes() for s in ('csv', 'parquet')]
  damaged = write(tmp_path, 'b', table('b', 'noise'))
  damaged.write_bytes(damaged.read_bytes()[:-9])
  with pytest.raises(tables.TableError, match=r'b\.parquet: this part of'):
    tables.merge_parts([good, damaged], tmp_path)
  with pytest.raises(FileNotFoundError):
    tables.merge_parts([good, tmp_path / 'absent.parquet'], tmp_path)
  after = [(tmp_path / f'cells.{s}').read_bytes() for s in ('csv', 'parquet')]
  assert after == before
  names = {path.name for path in tmp_path.iterdir()}
  assert names == {tables.PARTS, 'cells.csv', 'cells.parquet'}


# Arrow may free memory by a pool after it is no longer set: pools stay alive.
KEPT = []


def test_memory_does_not_grow_with_the_number_of_files(tmp_path, monkeypatch):
  measured = table('a')
  many = {name: np.tile(column, 30) for name, column in measured.items()}
  part = write(tmp_path, 'a', many)
  monkeypatch.setattr(tables, '_ROWS', many['label'].size)
  peaks = []
  before = pa.default_memory_pool()
  for copies in (2, 20):
    pool = pa.proxy_memory_pool(before)
    KEPT.append(pool)
    pa.set_memory_pool(pool)
    try:
      tables.merge_parts([part] * copies, tmp_path)
    finally:
      pa.set_memory_pool(before)
    peaks.append(pool.max_memory())
  assert len(read_csv(tmp_path)) == 20 * many['label'].size
  assert peaks[0] > 0
  assert peaks[1] < 1.5 * peaks[0]


@pytest.mark.parametrize('name', ['', '..', '.', '../a', 'a/b', '/a', 'a\\b'])
def test_parts_lie_in_their_folder(tmp_path, name):
  with pytest.raises(ValueError, match='not the name of a file'):
    tables.part_path(tmp_path, name)


def test_a_name_may_be_any_other(tmp_path):
  part = tables.part_path(tmp_path, 'a.b ä')
  assert part == tmp_path / '.cells' / 'a.b ä.parquet'
  tables.merge_parts([write(tmp_path, 'a.b ä', table('x\udcff'))], tmp_path)
  assert {row['file'] for row in read_csv(tmp_path)} == {'x?'}
