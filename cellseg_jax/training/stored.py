"""Checks the sizes that a checkpoint claims before it is decoded.

Orbax has TensorStore store the arrays, as Zarr in its database OCDBT. There,
both the entries and the nodes that lead to them are compressed with zstd, so a
few bytes can claim any size, and TensorStore aborts the process when memory
runs out.
"""

from collections.abc import Collection
import itertools
import json
import math
import pathlib
import re
from typing import Any

import numpy as np
import tensorstore as ts

from cellseg_jax.images.expansion import check_expansion

# Header of an OCDBT node or manifest: the two bytes that its three magic
# numbers share, two more, the length, a version and the code of zstd
# (tensorstore/kvstore/ocdbt/format).
_NODE = re.compile(rb'\x0c\xdb.{10}\x00\x01(?=\x28\xb5\x2f\xfd)', re.DOTALL)
_NODE_SIZE = 2**23  # TensorStore's default limit for the nodes that it writes.
# Most chunks of an array; this package writes a single one.
_MOST_CHUNKS = 4096


def check_stored(
  folder: pathlib.Path, names: Collection[str], expected: int
) -> None:
  """Raises an error if arrays, chunks or nodes would be far too large.

  Args:
    folder: Folder of one item of a checkpoint.
    names: Names of the item's arrays.
    expected: Total number of values that the arrays should have.

  Raises:
    ValueError: The arrays claim more than twice as many values, have too many
      chunks, would decompress to far more, or are stored in another format.
    Exception: The files are not what Orbax writes; the type may be any.
  """
  described = json.loads((folder / '_METADATA').read_text())
  if (
    not described.get('use_ocdbt', True)
    or described.get('use_zarr3')
    or (folder / 'checkpoint').exists()  # Orbax would read this msgpack file.
  ):
    raise ValueError('it is not stored as OCDBT with Zarr of version 2')
  for path in folder.rglob('*'):
    if path.is_file():
      _check_nodes(path.read_bytes())
  base = {'driver': 'file', 'path': f'{folder}/'}
  store = ts.KvStore.open({'driver': 'ocdbt', 'base': base}).result()
  arrays = {name: _described(store, name) for name in names}
  claimed = sum(
    max(math.prod(one['shape']), math.prod(one['chunks']))
    for one in arrays.values()
  )
  if claimed > 2 * expected:
    raise ValueError(
      f'its arrays claim to hold {claimed} values, and {expected} are expected'
    )
  for name, one in arrays.items():
    _check_chunks(store, name, one)


def _check_nodes(content: bytes) -> None:
  for found in _NODE.finditer(content):
    check_expansion('zstd', content[found.end() :], _NODE_SIZE)


def _described(store: Any, name: str) -> dict[str, Any]:
  """Returns the Zarr metadata of an array, as restoring it will see them.

  Raises:
    ValueError: The array is filtered or not compressed by zstd, or shape and
      chunks differ in rank.
  """
  one = json.loads(store.read(f'{name}/.zarray').result().value)
  kind = (one['compressor'] or {}).get('id')
  if kind not in (None, 'zstd') or one['filters']:
    raise ValueError(f'{name} is compressed by {kind} and not by zstd')
  if len(one['shape']) != len(one['chunks']):
    raise ValueError(f'{name} is of shape {one["shape"]} and not its chunks')
  return one


def _check_chunks(store: Any, name: str, one: dict[str, Any]) -> None:
  counts = [
    math.ceil(size / chunk)
    for size, chunk in zip(one['shape'], one['chunks'], strict=True)
  ]
  if math.prod(counts) > _MOST_CHUNKS:
    raise ValueError(f'{name} is in {math.prod(counts)} pieces')
  expected = math.prod(one['chunks']) * np.dtype(one['dtype']).itemsize
  separator = one.get('dimension_separator', '.')
  for place in itertools.product(*map(range, counts)):
    # The only chunk of a scalar is called 0.
    key = separator.join(map(str, place)) or '0'
    data = store.read(f'{name}/{key}').result().value
    check_expansion('zstd', data, expected)
