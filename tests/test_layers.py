"""Imports run downward only, and third parties have one room each."""

import ast
import pathlib

import pytest

ROOT = pathlib.Path(__file__).parents[1]
PACKAGE = 'cellseg_jax'

LAYERS = (
  (
    *('atomic', 'cache', 'config', 'environment', 'experiments', 'inside'),
    *('progress', 'serialization', 'validation', 'images'),
  ),
  ('datasets', 'model'),
  ('training', 'inference', 'evaluation'),
  ('export', 'cluster', 'report', 'studies'),
  ('cli', 'run_train'),
)

ROOMS = {
  'orbax': ('cellseg_jax.training.checkpoints',),
  'tensorstore': ('cellseg_jax.training.stored',),
  'tensorflow_datasets': ('cellseg_jax.datasets',),
  'grain': ('cellseg_jax.training.feed',),
  'jinja2': ('cellseg_jax.report.page',),
  'matplotlib': (
    'cellseg_jax.evaluation.figures',
    'cellseg_jax.report.charts',
    'cellseg_jax.report.drawing',
    'cellseg_jax.studies.figures',
  ),
  'pyarrow': ('cellseg_jax.images.tables',),
  'roifile': ('cellseg_jax.images.exports',),
  'absl': ('cellseg_jax.cli', 'run_train'),
  'ml_collections': ('cellseg_jax.cli', 'run_train'),
  'argparse': ('cellseg_jax.cli', 'run_train'),
  'dask': ('cellseg_jax.cluster',),
  'distributed': ('cellseg_jax.cluster',),
  'bioio': ('cellseg_jax.images.microscopy',),
  'flax.linen': ('cellseg_jax.model',),
  'ome_zarr_models': ('cellseg_jax.images.zarr_files',),
  'jax2onnx': ('cellseg_jax.export.onnx_graph',),
  'onnx': ('cellseg_jax.export.onnx_graph',),
  'onnxruntime': ('cellseg_jax.export.onnx_runtime',),
  'bioimageio': ('cellseg_jax.export.bioimage',),
  'PIL': ('cellseg_jax.images.raster',),
  'tensorboardX': ('cellseg_jax.training.events',),
  'tensorflow': (),
  'torch': (),
  'tqdm': ('cellseg_jax.progress',),
  'pickle': (),
}


def read_sources():
  """Dotted name to syntax tree of every module of ours."""
  files = [ROOT / 'run_train.py', *sorted((ROOT / PACKAGE).rglob('*.py'))]
  sources = {}
  for path in files:
    parts = path.relative_to(ROOT).with_suffix('').parts
    name = '.'.join(part for part in parts if part != '__init__')
    sources[name] = ast.parse(path.read_text())
  return sources


SOURCES = read_sources()


def imports(tree, known=SOURCES, late=True):
  """What a module imports, as dotted names; `late` ones within functions too.

  `from a import b` counts as `a.b`, unless `a` is a module of ours without a
  module `b`.
  """
  found = set()
  nodes = [tree]
  while nodes:
    node = nodes.pop()
    if isinstance(node, ast.Import):
      found |= {alias.name for alias in node.names}
    elif isinstance(node, ast.ImportFrom):
      assert node.level == 0, 'imports are absolute'
      for alias in node.names:
        full = f'{node.module}.{alias.name}'
        found.add(
          node.module if node.module in known and full not in known else full
        )
    if late or not isinstance(node, ast.FunctionDef):
      nodes += ast.iter_child_nodes(node)
  return found


def layer(module):
  """The height of one of our modules; the package's own is the public API."""
  if module == PACKAGE:
    return 2
  room = module.removeprefix(f'{PACKAGE}.').split('.')[0]
  (height,) = (i for i, rooms in enumerate(LAYERS) if room in rooms)
  return height


def within(module, places):
  return any(module == p or module.startswith(f'{p}.') for p in places)


def upward(sources):
  """Pairs of modules of which the first imports the second from below."""
  return [
    (module, target)
    for module, tree in sources.items()
    for target in imports(tree, sources)
    if within(target, (PACKAGE, 'run_train'))
    and (layer(target) > layer(module) or target == PACKAGE)
  ]


def trespassers(sources, third_party, rooms):
  """Modules outside `rooms` that import a third party's package."""
  return [
    module
    for module, tree in sources.items()
    if any(within(name, [third_party]) for name in imports(tree, sources))
    and not within(module, rooms)
  ]


def cycles(sources):
  """Modules that need themselves to be imported."""
  graph = {m: imports(t, sources, late=False) for m, t in sources.items()}

  def reachable(start):
    seen, todo = set(), [start]
    while todo:
      for target in graph.get(todo.pop(), ()):
        if target in graph and target not in seen:
          seen.add(target)
          todo.append(target)
    return seen

  return [module for module in graph if module in reachable(module)]


def test_every_module_has_a_layer():
  heights = {module: layer(module) for module in SOURCES}
  assert set(heights.values()) == set(range(len(LAYERS)))
  assert len(heights) > 35


def test_imports_run_downward():
  assert upward(SOURCES) == []


def test_config_stands_on_nothing_of_ours():
  ours = [n for n in imports(SOURCES['cellseg_jax.config']) if PACKAGE in n]
  assert ours == []


@pytest.mark.parametrize('third_party', ROOMS)
def test_third_parties_have_one_room(third_party):
  assert trespassers(SOURCES, third_party, ROOMS[third_party]) == []


def test_the_rooms_are_in_use():
  """Else a rule above would hold for a misspelt name."""
  everything = set().union(*(imports(tree) for tree in SOURCES.values()))
  for third_party, rooms in ROOMS.items():
    assert any(within(n, [third_party]) for n in everything) == bool(rooms)


def test_pmap_has_one_room():
  users = [
    module
    for module, tree in SOURCES.items()
    for node in ast.walk(tree)
    if (isinstance(node, ast.Attribute) and node.attr == 'pmap')
    or (isinstance(node, ast.alias) and node.name.endswith('pmap'))
  ]
  assert set(users) == {'cellseg_jax.training.parallel'}


def test_no_module_needs_itself():
  assert cycles(SOURCES) == []


@pytest.mark.parametrize('start', [PACKAGE, 'cellseg_jax.cli.segment'])
def test_segmenting_does_without_tensorflow_datasets(start):
  seen, todo = set(), [start]
  while todo:
    for name in imports(SOURCES[todo.pop()]):
      if name not in seen:
        seen.add(name)
        todo += [name] if name in SOURCES else []
  assert 'cellseg_jax.model.fcn' in seen
  assert not any(within(name, ['tensorflow_datasets']) for name in seen)


def test_experiments_only_name_a_config():
  for path in (ROOT / 'experiments').glob('*.py'):
    found = {
      name
      for name in imports(ast.parse(path.read_text()))
      if name.startswith('cellseg_jax')
    }
    assert {'cellseg_jax.config', 'cellseg_jax.experiments'} <= found
    assert found <= {
      'cellseg_jax.config',
      'cellseg_jax.experiments',
      'cellseg_jax.serialization',
    }


def test_faults_would_be_found():
  sources = {
    'cellseg_jax': 'from cellseg_jax.training import loop',
    'cellseg_jax.config': 'import orbax.checkpoint',
    'cellseg_jax.images.a': 'from cellseg_jax.datasets import pool',
    'cellseg_jax.datasets.pool': 'def f():\n  from cellseg_jax import model',
    'cellseg_jax.model': 'from cellseg_jax.images.a import thing',
    'cellseg_jax.training.loop': 'from cellseg_jax import predict',
    'run_train': 'import torch.nn',
  }
  trees = {name: ast.parse(text) for name, text in sources.items()}
  assert upward(trees) == [
    ('cellseg_jax.images.a', 'cellseg_jax.datasets.pool'),
    ('cellseg_jax.training.loop', 'cellseg_jax'),
  ]
  assert cycles(trees) == ['cellseg_jax', 'cellseg_jax.training.loop']
  assert trespassers(trees, 'torch', ()) == ['run_train']
  assert trespassers(trees, 'orbax', ('cellseg_jax.con',)) == [
    'cellseg_jax.config'
  ]
