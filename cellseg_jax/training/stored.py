"""What a checkpoint says that it holds, looked at before it is decoded.

Orbax leaves the arrays to TensorStore: as Zarr in its database OCDBT, of which
both the entries and the nodes that lead to them are compressed by zstd. A few
bytes can claim any size there, and TensorStore ends the process where memory
does not suffice.
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

# A node or manifest: two bytes of three magic numbers, two more, its length, a
# version and the number of zstd (tensorstore/kvstore/ocdbt/format).
_NODE = re.compile(rb'\x0c\xdb.{10}\x00\x01(?=\x28\xb5\x2f\xfd)', re.DOTALL)
_NODE_SIZE = 2**23  # TensorStore's default for the most that it writes.
# Of an array; this package writes one.
_MOST_CHUNKS = 4096


def check_stored(
  folder: pathlib.Path, names: Collection[str], expected: int
) -> None:
  """Refuses arrays, pieces of them or nodes of far more than expected.

  Args:
    folder: Of one item of a checkpoint.
    names: What its arrays are called there.
    expected: Values that they should have in all.

  Raises:
    ValueError: They claim more than twice as many, or become far more.
    Exception: What is there is not what Orbax writes; of any kind.
  """
  described = json.loads((folder / '_METADATA').read_text())
  if (
    not described.get('use_ocdbt', True)
    or described.get('use_zarr3')
    or (folder / 'checkpoint').exists()  # Read in its place, as msgpack.
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
  """Returns the metadata of an array as it will be read."""
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
    # Of a scalar the only chunk is called 0.
    key = separator.join(map(str, place)) or '0'
    data = store.read(f'{name}/{key}').result().value
    check_expansion('zstd', data, expected)
