"""Prints what hostile inputs get, each tried in a process of its own.

  cd tests && PYTHONPATH=. python security/table.py

The rows of docs/security.md; files of the kinds that the tests make.
"""

import multiprocessing
import os
import pathlib
import resource
import shutil
import tempfile
import time

from absl import logging
import hostile
import numpy as np
import tifffile
import zarr

from cellseg_jax.images.selection import select, Selection
from cellseg_jax.images.source import open_image
from cellseg_jax.inference.load import load_model
from cellseg_jax.training import manifest
from fuzz import model_loader

CASES = {}
FLOOD = 2**30


def case(title):
  """Declares what makes an input, and returns what is then done with it."""

  def declare(make):
    CASES[title] = make
    return make

  return declare


def opening(path, axes='YX'):
  def act():
    with open_image(path, axes) as source:
      select(source, Selection())
      source[:8, :8]

  return act


@case('PNG that claims 100,000 x 100,000 pixels')
def _(folder):
  (folder / 'a.png').write_bytes(hostile.png(*hostile.HUGE))
  return opening(folder / 'a.png')


@case('TIFF of one strip that claims as many')
def _(folder):
  return opening(hostile.tiff(folder / 'a.tif', claims=hostile.HUGE))


@case('TIFF of tiles that claims as many')
def _(folder):
  return opening(
    hostile.tiff(folder / 'a.tif', (32, 32), hostile.HUGE, tile=(16, 16))
  )


@case('OME-Zarr that claims as many')
def _(folder):
  options = {'chunks': (512, 512), 'dtype': 'uint8'}
  zarr.create_array(folder / 'a.zarr', shape=hostile.HUGE, **options)
  return opening(folder / 'a.zarr')


@case('TIFF strip of 256 bytes that decompresses to 1 GB')
def _(folder):
  data = hostile.flooded('zlib', FLOOD)
  return opening(hostile.tiff(folder / 'a.tif', data=data))


for codec in ('zlib', 'zstd', 'blosc', 'bz2', 'lzma'):

  @case(f'Zarr chunk of 64 bytes that {codec} decompresses to 1 GB')
  def _(folder, codec=codec):
    data = hostile.flooded(codec, FLOOD)
    options = {'compressor': {'id': codec}}
    return opening(hostile.zarr_v2(folder / 'a.zarr', data, **options))


@case('Zarr shard of which a gzip chunk becomes 1 GB')
def _(folder):
  data = hostile.flooded('gzip', FLOOD)
  return opening(hostile.zarr_v3(folder / 'a.zarr', 'gzip', data, sharded=True))


@case('Zarr whose codec is `pickle`')
def _(folder):
  return opening(
    hostile.zarr_v2(
      folder / 'a.zarr',
      hostile.pickled(folder / 'ran'),
      compressor={'id': 'pickle', 'protocol': 5},
    )
  )


@case('Zarr of 2^29 planes of a pixel')
def _(folder):
  shape = (2**15, 2**14, 1, 1)
  zarr.create_array(folder / 'a.zarr', shape=shape, chunks=shape, dtype='u1')
  return opening(folder / 'a.zarr', 'TZYX')


@case('Zarr folder of links to itself')
def _(folder):
  zarr.create_group(folder / 'a.zarr')
  for name in 'abcd':
    (folder / 'a.zarr' / name).symlink_to('.')
  return opening(folder / 'a.zarr')


def described(folder, text):
  path = folder / 'a.ome.tif'
  tifffile.imwrite(path, np.zeros((16, 16), np.uint8), description=text)
  return opening(path)


@case('OME-TIFF with entities that multiply')
def _(folder):
  return described(folder, hostile.ENTITIES)


@case('OME-TIFF that names `../secret.tif` as a part')
def _(folder):
  return described(folder, hostile.ome('a.ome.tif', '../secret.tif'))


@case('TIFF whose last page leads back to the first')
def _(folder):
  path = folder / 'a.tif'
  kept = pathlib.Path(model_loader.__file__).parent / 'inputs'
  path.write_bytes((kept / 'image_reader' / 'endless_pages').read_bytes()[1:])
  return opening(path)


@case('a pipe in place of an image')
def _(folder):
  os.mkfifo(folder / 'a.tif')
  return opening(folder / 'a.tif')


def loading(folder, change):
  """A run of which something was changed, its manifest made anew."""
  run = folder / 'run'
  shutil.copytree(model_loader.make_run(), run)
  step = run / 'checkpoints' / '1'
  change(run, step)
  manifest.write(step)
  return lambda: load_model(run)


@case('model: a network of a width of 10^9')
def _(folder):
  text = '{"model": {"width": 1e9}}'
  return loading(folder, lambda r, _: (r / 'config.json').write_text(text))


@case('model: JSON of 100,000 brackets')
def _(folder):
  text = '[' * 10**5
  return loading(folder, lambda r, _: (r / 'config.json').write_text(text))


for claim in ('shape', 'chunks'):

  @case(f'model: arrays that claim {claim} of 10^6 along each axis')
  def _(folder, claim=claim):
    return loading(
      folder, lambda _, step: hostile.claiming(step / 'variables', claim)
    )


def flood_an_array(_, step):
  keys = hostile.stored(step / 'variables')
  name = next(k for k in keys.list().result() if k.endswith(b'/0'))
  keys.write(name, hostile.flooded('zstd', FLOOD)).result()


@case('model: an array of 32 bytes that becomes 1 GB')
def _(folder):
  return loading(folder, flood_an_array)


@case('model: a node of its database that becomes 1 GB')
def _(folder):
  node = hostile.node(hostile.flooded('zstd', FLOOD))
  return loading(
    folder, lambda _, step: (step / 'variables/d/node').write_bytes(node)
  )


@case('model: every file a pickle')
def _(folder):
  def change(_, step):
    for path in step.rglob('*'):
      if path.is_file():
        path.write_bytes(hostile.pickled(folder / 'ran'))

  return loading(folder, change)


@case('model: a pipe among its files')
def _(folder):
  run = folder / 'run'
  loading(folder, lambda r, s: None)
  os.mkfifo(run / 'checkpoints' / '1' / 'pipe')
  return lambda: load_model(run)


def tried(make, folder, answer):
  """Tells what was said, in how long, and by how much the process grew."""
  logging.set_verbosity(logging.FATAL)
  act = make(folder)
  # What making the input took is not counted.
  pathlib.Path('/proc/self/clear_refs').write_text('5')
  before, start = peak(), time.monotonic()
  try:
    act()
    said = 'was read'
  except Exception as error:
    said = f'`{type(error).__name__}`: {error}'
  ran = ' AND RAN CODE' if (folder / 'ran').exists() else ''
  said = said.replace(f'{folder}/', '') + ran
  answer.put((said, time.monotonic() - start, peak() - before))


def peak():
  """The most memory of this process, in MB."""
  for line in pathlib.Path('/proc/self/status').read_text().splitlines():
    if line.startswith('VmHWM'):
      return int(line.split()[1]) / 1024
  return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def main():
  print('| input | what it gets | s | MB |\n|---|---|---|---|')
  context = multiprocessing.get_context('spawn')
  for title in CASES:
    with tempfile.TemporaryDirectory() as folder:
      answer = context.Queue()
      arguments = (title, pathlib.Path(folder), answer)
      process = context.Process(target=one, args=arguments)
      process.start()
      process.join(120)
      if process.exitcode != 0:
        process.kill()
        row = (f'ENDED THE PROCESS ({process.exitcode})', 120.0, 0.0)
      else:
        row = answer.get()
    said, seconds, grown = row
    print(f'| {title} | {said} | {seconds:.1f} | {grown:.0f} |', flush=True)


def one(title, folder, answer):
  tried(CASES[title], folder, answer)


if __name__ == '__main__':
  main()
