"""Fuzzes one of the targets with atheris.

  cd tests && python -m fuzz image_reader --seconds 600 --corpus FOLDER

Stops at the first input that gives anything but a clean error, and keeps it as
`crash-...` in the corpus folder's parent.
"""

import argparse
import importlib
import logging
import pathlib
import sys
import tempfile

import atheris

TARGETS = ('image_reader', 'label_checker', 'config_loader', 'model_loader')
INSTRUMENTED = {
  'image_reader': ['cellseg_jax', 'tifffile', 'PIL', 'zarr', 'imageio'],
  'label_checker': ['cellseg_jax'],
  'config_loader': ['cellseg_jax', 'json', 'ml_collections'],
  'model_loader': ['cellseg_jax', 'orbax'],
}


def main():
  """Reads the arguments, writes the seeds, and fuzzes until time is up."""
  parser = argparse.ArgumentParser(prog='fuzz', description=__doc__)
  parser.add_argument('target', choices=TARGETS)
  parser.add_argument('--seconds', type=int, default=600)
  parser.add_argument('--corpus', help='kept for the next time')
  arguments = parser.parse_args()
  with atheris.instrument_imports(include=INSTRUMENTED[arguments.target]):
    target = importlib.import_module(f'fuzz.{arguments.target}')
  corpus = pathlib.Path(arguments.corpus or tempfile.mkdtemp(prefix='corpus'))
  corpus.mkdir(parents=True, exist_ok=True)
  for number, seed in enumerate(target.seeds()):
    (corpus / f'seed{number}').write_bytes(seed)
  options = [
    f'-max_total_time={arguments.seconds}',
    f'-artifact_prefix={corpus.parent}/{arguments.target}-',
    '-timeout=30',
    '-rss_limit_mb=4096',
    '-max_len=8192',
    '-len_control=0',
    '-print_final_stats=1',
  ]
  words = getattr(target, 'WORDS', ())
  if words:
    dictionary = corpus.parent / f'{arguments.target}.dict'
    dictionary.write_text(''.join(f'"{_escaped(word)}"\n' for word in words))
    options.append(f'-dict={dictionary}')
  # What the libraries complain of is not what is looked for.
  logging.getLogger().addHandler(logging.NullHandler())
  atheris.Setup([sys.argv[0], *options, str(corpus)], target.one_input)
  atheris.Fuzz()


def _escaped(word):
  return ''.join(f'\\x{byte:02x}' for byte in word.encode())


if __name__ == '__main__':
  main()
