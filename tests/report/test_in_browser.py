"""The pages in a real browser: headless Chromium, driven by Playwright."""

import base64
import re
import shutil

import imageio.v3 as iio
import numpy as np
import pytest
from scipy import ndimage

from cellseg_jax.evaluation import matching
from cellseg_jax.report.encode import NOT_VALID
from cellseg_jax.report.predictions import report_predictions

playwright = pytest.importorskip('playwright.sync_api', exc_type=ImportError)

NAMES = ('chromium-headless-shell', 'chromium', 'chromium-browser')
FOUND = [path for path in map(shutil.which, NAMES) if path]

pytestmark = pytest.mark.skipif(
  not FOUND, reason=f'needs a browser: one of {", ".join(NAMES)}'
)


@pytest.fixture(scope='module')
def browser():
  with playwright.sync_playwright() as driver:
    browser = driver.chromium.launch(
      executable_path=FOUND[0], args=['--no-sandbox']
    )
    yield browser
    browser.close()


@pytest.fixture
def opened(browser):
  """Opens pages; all are checked for faults and requests at the end."""
  said, asked = [], []
  contexts = []

  def visit(path, width=1280, scheme='light'):
    context = browser.new_context(
      viewport={'width': width, 'height': 900}, color_scheme=scheme
    )
    contexts.append(context)
    view = context.new_page()
    view.on('console', lambda message: said.append(message.text))
    view.on('pageerror', lambda error: said.append(str(error)))
    view.on('request', lambda request: asked.append(request.url))
    view.goto(path.as_uri())
    return view

  yield visit
  for context in contexts:
    context.close()
  assert said == []
  assert [url for url in asked if not url.startswith(('file:', 'data:'))] == []
  assert sum(url.startswith('file:') for url in asked) == len(contexts)


def show(view, threshold):
  """Moves the slider; returns what is said of the first image and of all."""
  view.evaluate(
    """value => {
      const slider = document.getElementById('slide');
      slider.value = value;
      slider.dispatchEvent(new Event('input'));
    }""",
    f'{threshold:.2f}',
  )
  view.wait_for_function(
    "value => document.getElementById('slide').dataset.shown === value",
    arg=f'{threshold:g}',
  )
  return view.inner_text('#scores-0'), view.inner_text('#pooled')


def stored(view, part, number):
  source = view.get_attribute(f'#{part}-{number}', 'src')
  return iio.imread(base64.b64decode(source.partition(',')[2])).astype(int)


def expected(view, number, threshold, min_area=5):
  """The scores that the page must show, from what it holds, with NumPy."""
  probability = stored(view, 'probability', number)
  coded = stored(view, 'labels', number) @ [1, 256, 65_536]
  valid = coded != NOT_VALID
  truth = np.where(valid, coded, 0)
  found, count = ndimage.label((probability > 255 * threshold) & valid)
  area = np.bincount(found.ravel(), minlength=count + 1)
  found[area[found] < min_area] = 0
  counts = matching.match(truth, found)
  cell, said = truth[valid] > 0, found[valid] > 0
  return (
    f'TPR {said[cell].mean():.3f}, FPR {said[~cell].mean():.3f}, '
    f'Dice {matching.dice(counts):.3f}; {counts.predicted_cells} pieces, '
    f'{counts.true_cells} labelled; F1 at IoU 0.5: '
    f'{matching.f1(counts)[0.5]:.3f}'
  )


def test_the_slider_changes_masks_and_scores(page, opened):
  view = opened(page)
  view.wait_for_function(
    "document.getElementById('slide').dataset.shown === '0.6'"
  )
  seen = []
  for threshold in (0.6, 0.1, 0.9):
    first, pooled = show(view, threshold)
    assert first == expected(view, 0, threshold)
    second = view.inner_text('#scores-1')
    assert second == expected(view, 1, threshold)
    assert pooled.startswith('All 2: TPR ')
    assert view.inner_text('#slide-value') == f'{threshold:.2f}'
    labelled = [
      int(re.search(r'(\d+) labelled', s)[1]) for s in (first, second)
    ]
    assert f'{sum(labelled)} labelled' in pooled
    mask = view.evaluate("document.getElementById('canvas-0').toDataURL()")
    seen.append((first, mask))
  for one, other in ((0, 1), (0, 2), (1, 2)):
    assert seen[one][0] != seen[other][0]
    assert seen[one][1] != seen[other][1]


@pytest.mark.parametrize('width', [390, 1280])
@pytest.mark.parametrize('scheme', ['light', 'dark'])
def test_it_fits_and_follows_the_scheme(page, opened, width, scheme):
  view = opened(page, width, scheme)
  assert view.evaluate('document.documentElement.scrollWidth') <= width
  assert view.evaluate(
    '[...document.images].filter(i => !i.hidden).every(i => i.naturalWidth > 1)'
  )

  def brightness():
    colour = view.evaluate('getComputedStyle(document.body).backgroundColor')
    return int(re.search(r'\d+', colour)[0])

  before = brightness()
  assert (before > 128) == (scheme == 'light')
  bar = """getComputedStyle(
    document.querySelector('.chart path[style*="fill: var(--first)"]')).fill"""
  colour = view.evaluate(bar)
  assert colour.startswith('rgb')
  view.click('#theme')
  assert (brightness() > 128) != (before > 128)
  assert view.evaluate(bar) != colour


def test_a_click_enlarges_a_picture(page, opened):
  view = opened(page)
  picture = view.locator('#picture-0')
  before = picture.bounding_box()['width']
  picture.click()
  assert picture.bounding_box()['width'] > 2 * before


def test_names_are_shown_as_text(page, opened, hostile):
  assert hostile in opened(page).inner_text('#images ~ h3 >> nth=0') or (
    hostile in opened(page).inner_text('#images ~ h3 >> nth=1')
  )


def test_the_page_of_segmented_files(segmented, opened):
  view = opened(report_predictions(segmented))
  assert view.evaluate(
    '[...document.images].length > 6 && '
    '[...document.images].every(i => i.naturalWidth > 1)'
  )
