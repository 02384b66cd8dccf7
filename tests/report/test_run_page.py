"""The page of a run: all there, in one file, and names are only text."""

import html
import html.parser

import numpy as np

from cellseg_jax.report.run import write_report


class Reader(html.parser.HTMLParser):
  """Notes tags with their attributes, and text outside of scripts."""

  def __init__(self, path):
    super().__init__()
    self.tags, self.words, self.within = [], [], ''
    self.feed(path.read_text())

  def handle_starttag(self, tag, attributes):
    self.tags.append((tag, dict(attributes)))
    self.within = tag

  def handle_data(self, data):
    if self.within not in ('script', 'style'):
      self.words += data.split()

  @property
  def text(self):
    return ' '.join(self.words)

  def all(self, tag):
    return [attributes for name, attributes in self.tags if name == tag]


def test_everything_is_said(page):
  assert page.name == 'index.html'
  assert page.parent.name == 'report'
  read = Reader(page)
  for text in (
    'my run',
    'of step 20 of 20',
    '2 images with',
    'a.tif: 2 labels smaller than 30 pixels',
    'case study, test 0.989 0.73 0.82 0.93 0.99',
    'case study, training 0.997',
    '9.0 crops a second',
    '3.0 GiB at most',
    'Expected calibration error',
    'Seed 0',
    '--config.training.steps=20',
  ):
    assert text in read.text, text
  headings = ('trained', 'course', 'reached', 'images', 'worst', 'threshold')
  ids = {attributes.get('id') for _, attributes in read.tags}
  assert ids >= {*headings, 'calibration', 'sizes', 'speed', 'repeat'}


def test_all_figures_and_pictures_are_there(page):
  read = Reader(page)
  charts = [a for a in read.all('svg') if 'xmlns:xlink' in a]
  assert len(charts) == 11
  pictures = read.all('img')
  # 2 thumbnails, 5 of each of 2 images, and the worst cells.
  assert len(pictures) >= 2 + 10 + 2
  assert all(p['src'].startswith('data:image/') for p in pictures)
  assert 'font-family: inherit' in page.read_text()


def test_ids_are_unique(page):
  ids = [a['id'] for tag, a in Reader(page).tags if 'id' in a and tag != 'path']
  assert len(ids) == len(set(ids))


def test_names_are_text(page, hostile):
  text = page.read_text()
  assert hostile not in text
  assert html.escape('<script src=') in text
  read = Reader(page)
  assert all('src' not in attributes for attributes in read.all('script'))
  assert len(read.all('script')) == 1


def test_nothing_is_asked_of_a_network(page):
  read = Reader(page)
  assert not read.all('iframe')
  for tag, attributes in read.tags:
    for name in ('src', 'href', 'xlink:href', 'action', 'data'):
      value = attributes.get(name) or '#'
      assert value.startswith(('#', 'data:')), (tag, name, value[:80])
  (policy,) = (a['content'] for a in read.all('meta') if a.get('http-equiv'))
  assert "default-src 'none'" in policy


def test_the_same_run_gives_the_same_figures(page, evaluated):
  before = page.read_text()
  after = write_report(page.parents[1], evaluated).read_text()

  def stable(text):  # Time of day and seconds are new.
    return text[: text.index('id="speed"')]

  assert stable(before) == stable(after)


def test_a_run_in_progress_says_so(page, evaluated, tmp_path):
  lines = (page.parents[1] / 'metrics.jsonl').read_text().splitlines()
  (tmp_path / 'metrics.jsonl').write_text(lines[0] + '\n')
  text = Reader(write_report(tmp_path, evaluated)).text
  assert 'in progress' in text
  assert 'at most in the process' not in text


def test_looks_are_cut_to_what_counts(evaluated):
  whole, part = evaluated.looks
  assert whole.true.shape == (60, 80)
  assert part.true.shape == part.probability.shape == (60, 40)
  assert part.image.shape == (60, 40)
  assert set(np.unique(whole.found)) - {0} <= set(whole.confidence)
