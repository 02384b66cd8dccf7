"""The page of a folder that `cellseg segment` wrote."""

import html
import re

import numpy as np
import pytest
from tiny_sets import cells

from cellseg_jax.images import formats
from cellseg_jax.inference import batch, files
from cellseg_jax.report.predictions import PredictionsError, report_predictions


def text_of(path):
  text = re.sub(
    r'<(script|style|svg)\b.*?</\1>', '', path.read_text(), flags=re.S
  )
  return ' '.join(html.unescape(re.sub(r'<[^>]+>', ' ', text)).split())


def test_odd_images_come_first(segmented):
  page = report_predictions(segmented)
  assert page == segmented / 'report' / 'index.html'
  text = text_of(page)
  assert '7 segmented files' in text
  assert 'broken.png' in text
  assert 'damaged' in text
  few, huge = '3 <b>.tif : 1 cell few cells: 1', '4 <b>.tif'
  assert few in text
  assert '1 huge: the largest cell has' in text
  assert text.index(few) < text.rindex('Contact sheet')
  assert text.index(huge) < text.rindex('Contact sheet')
  assert '<b>' not in page.read_text()
  sheet = text[text.index('Those unlike the others first') :]
  order = re.findall(r'(\d) <b>.tif: \d+ cell', sheet)
  assert sorted(order) == list('012345')
  assert set(order[:2]) == {'3', '4'}


def test_an_image_that_is_gone_is_drawn_as_its_cells(segmented):
  whole = report_predictions(segmented).read_text()
  for path in (segmented.parent / 'images').iterdir():
    path.unlink()
  page = report_predictions(segmented)
  assert page.read_text() != whole
  assert page.read_text().count('<img') == whole.count('<img')


def test_frames_of_a_stack_are_looked_at_one_by_one(line_model, tmp_path):
  stack = np.stack([cells(seed)[0] for seed in range(7)])
  stack[5, :, 20:] = stack[5, 20:] = 20
  path = tmp_path / 'movie.tif'
  formats.write_labels(path, stack, axes='TYX')
  out = tmp_path / 'out'
  out.mkdir()
  jobs = [batch.Job(path, 'movie')]
  list(batch.segment_files(line_model, jobs, out, files.Options(), ''))
  page = report_predictions(out)
  text = text_of(page)
  assert '1 segmented file, 7 images' in text
  assert 'movie.tif, frame 5 : 1 cell few cells: 1' in text
  assert 'frame by frame' in text


def test_a_folder_without_anything_is_refused(tmp_path):
  with pytest.raises(PredictionsError, match='nothing segmented here'):
    report_predictions(tmp_path)
