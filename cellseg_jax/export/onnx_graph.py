"""A model's network as an ONNX graph, from normalised pixels to named maps.

jax2onnx translates the network itself. The steps that depend on the size of the
image are written here in ONNX's text format, so that one file takes images of
any size: resampling to the scale of the network, padding by mirroring to
multiples of its stride, and the way back.
"""

from collections.abc import Iterator
import contextlib
import logging
import operator

import jax
from jax import lax
import jax2onnx
import onnx

from cellseg_jax.config import map_names, STRIDE
from cellseg_jax.images import normalize
from cellseg_jax.inference.predict import Model
from cellseg_jax.model import fcn

OPSET = 18
IR_VERSION = 8  # That of ONNX 1.13, whose opset is 18.

# Images are B x C x Y x X outside the network and B x Y x X x C inside it.
_BEFORE = """
zero = Constant <value_int: int = 0> ()
one = Constant <value_int: int = 1> ()
two = Constant <value_int: int = 2> ()
stride = Constant <value_int: int = {stride}> ()
zero_1d = Constant <value_ints: ints = [0]> ()
one_1d = Constant <value_ints: ints = [1]> ()
two_1d = Constant <value_ints: ints = [2]> ()
stride_1d = Constant <value_ints: ints = [{stride}]> ()
half = Constant <value_float: float = 0.5> ()
one_f = Constant <value_float: float = 1.0> ()
batch = Shape <start: int = 0, end: int = 1> (image)
channels = Shape <start: int = 1, end: int = 2> (image)
full_y_1d = Shape <start: int = 2, end: int = 3> (image)
full_x_1d = Shape <start: int = 3, end: int = 4> (image)
full_y = Squeeze (full_y_1d)
full_x = Squeeze (full_x_1d)
"""

# Height and width times a factor, rounded as in `normalize.resampled_shape`.
_SMALL = """
scaled_{a} = Mul (full_{a}, above)
raised_{a} = Add (scaled_{a}, nearly_half)
whole_{a} = Div (raised_{a}, below)
small_{a} = Max (whole_{a}, one)
"""

# Weights of every new pixel (row) for every old one (column): triangles, wide
# enough to prevent aliasing, as in `jax.image.resize`. ONNX's own Resize
# differs.
_WEIGHTS = """
old_{w} = Cast <to: int = 1> ({old})
new_{w} = Cast <to: int = 1> ({new})
scale_{w} = Div (new_{w}, old_{w})
inverse_{w} = Div (one_f, scale_{w})
reach_{w} = Max (inverse_{w}, one_f)
news_{w} = Range (zero, {new}, one)
news_f_{w} = Cast <to: int = 1> (news_{w})
centres_{w} = Add (news_f_{w}, half)
places_{w} = Mul (centres_{w}, inverse_{w})
shifted_{w} = Sub (places_{w}, half)
olds_{w} = Range (zero, {old}, one)
olds_f_{w} = Cast <to: int = 1> (olds_{w})
rows_{w} = Unsqueeze (shifted_{w}, one_1d)
columns_{w} = Unsqueeze (olds_f_{w}, zero_1d)
apart_{w} = Sub (rows_{w}, columns_{w})
distance_{w} = Abs (apart_{w})
relative_{w} = Div (distance_{w}, reach_{w})
inner_{w} = Sub (one_f, relative_{w})
triangle_{w} = Relu (inner_{w})
total_{w} = ReduceSum <keepdims: int = 1> (triangle_{w}, one_1d)
{w} = Div (triangle_{w}, total_{w})
"""

_RESIZE = """
turned_{new} = Transpose <perm: ints = [1, 0]> ({weights_x})
wide_{new} = MatMul ({old}, turned_{new})
{new} = MatMul ({weights_y}, wide_{new})
"""

# Indices that turn back at the end of the image: 'symmetric' padding.
_MIRROR = """
more_{a} = Neg (small_{a})
missing_{a} = Mod (more_{a}, stride)
padded_{a} = Add (small_{a}, missing_{a})
cells_{a} = Div (padded_{a}, stride)
cells_1d_{a} = Unsqueeze (cells_{a}, zero_1d)
range_{a} = Range (zero, padded_{a}, one)
twice_{a} = Mul (small_{a}, two)
forth_{a} = Mod (range_{a}, twice_{a})
last_{a} = Sub (twice_{a}, one)
back_{a} = Sub (last_{a}, forth_{a})
index_{a} = Min (forth_{a}, back_{a})
"""

_BLOCKS = """
mirrored_y = Gather <axis: int = 2> (small, index_y)
mirrored = Gather <axis: int = 3> (mirrored_y, index_x)
last = Transpose <perm: ints = [0, 2, 3, 1]> (mirrored)
blocked = Concat <axis: int = 0> (
  batch, cells_1d_y, stride_1d, cells_1d_x, stride_1d, channels
)
blocks = Reshape (last, blocked)
"""

_CROP = """
small_1d_y = Unsqueeze (small_y, zero_1d)
small_1d_x = Unsqueeze (small_x, zero_1d)
cropped_y = Slice (logits, zero_1d, small_1d_y, one_1d)
cropped = Slice (cropped_y, zero_1d, small_1d_x, two_1d)
first = Transpose <perm: ints = [0, 3, 1, 2]> (cropped)
"""

_MEAN = """
minus_one = Constant <value_ints: ints = [-1]> ()
members = Constant <value_ints: ints = [{members}]> ()
by_member = Concat <axis: int = 0> (
  batch, members, minus_one, full_y_1d, full_x_1d
)
each = Reshape (every, by_member)
maps = ReduceMean <keepdims: int = 0> (each, one_1d)
"""


def build(model: Model) -> onnx.ModelProto:
  """Builds the ONNX graph of a model's network.

  The input is `image`, float32 (B, C, H, W): normalised pixels at the scale of
  the image, with any B, H and W. The outputs have the names of the maps,
  float32 (B, 1, H, W), 0 to 1. Averaging over turns is not included.

  Args:
    model: A model that `load_model` or `ensemble` returned.

  Returns:
    A checked ONNX model of opset 18 that contains the weights.
  """
  network = _network(model)
  before, after = _surroundings(model)
  names = map_names(model.config.model)
  channels = model.config.data.channels
  results = ', '.join(f'float[B,1,H,W] {name}' for name in names)
  signature = f'cellseg (float[B,{channels},H,W] image) => ({results})'
  nodes = [
    *_parsed(signature, before),
    *network.graph.node,
    *_parsed(signature, after),
  ]
  graph = onnx.parser.parse_graph(f'{signature} {{}}')
  graph.node.extend(nodes)
  graph.initializer.extend(network.graph.initializer)
  built = onnx.helper.make_model(
    graph,
    producer_name='cellseg_jax',
    opset_imports=network.opset_import,
    functions=network.functions,
    ir_version=IR_VERSION,
  )
  onnx.checker.check_model(built)
  return built


def _parsed(signature: str, text: str) -> list[onnx.NodeProto]:
  return list(onnx.parser.parse_graph(f'{signature} {{{text}}}').node)


def _surroundings(model: Model) -> tuple[str, str]:
  """Returns the nodes before and after the network, in ONNX's text format."""
  factor = model.config.data.resample
  names = map_names(model.config.model)
  before = _BEFORE.format(stride=STRIDE)
  after = _CROP
  if factor == 1:
    before += 'small = Identity (image)\n'
    before += ''.join(f'small_{a} = Identity (full_{a})\n' for a in 'yx')
    after += 'restored = Identity (first)\n'
  else:
    above, below = normalize.whole_ratio(factor)
    for name, value in (
      ('above', above),
      ('below', below),
      ('nearly_half', (below - 1) // 2),
    ):
      before += f'{name} = Constant <value_int: int = {value}> ()\n'
    for a in 'yx':
      before += _SMALL.format(a=a)
      before += _WEIGHTS.format(w=f'to_{a}', old=f'full_{a}', new=f'small_{a}')
      after += _WEIGHTS.format(w=f'from_{a}', old=f'small_{a}', new=f'full_{a}')
    before += _RESIZE.format(
      old='image', new='small', weights_y='to_y', weights_x='to_x'
    )
    after += _RESIZE.format(
      old='first', new='restored', weights_y='from_y', weights_x='from_x'
    )
  before += ''.join(_MIRROR.format(a=a) for a in 'yx') + _BLOCKS
  if model.members == 1:
    after += 'maps = Sigmoid (restored)\n'
  else:
    after += 'every = Sigmoid (restored)\n'
    after += _MEAN.format(members=model.members)
  after += (
    f'{", ".join(names)} = Split <axis: int = 1, num_outputs: int = '
    f'{len(names)}> (maps)\n'
  )
  return before, after


def _network(model: Model) -> onnx.ModelProto:
  """Translates the network, with input `blocks` and output `logits`.

  Blocks are (B, h, 32, w, 32, C): sizes that are a symbol times the stride can
  be halved, doubled and compared by JAX.
  """
  if model.members == 1:
    members = [model.variables]
  else:
    members = [
      jax.tree.map(operator.itemgetter(i), model.variables)
      for i in range(model.members)
    ]

  def logits(blocks: jax.Array) -> jax.Array:
    batch, rows, _, columns, _, channels = blocks.shape
    images = blocks.reshape(batch, rows * STRIDE, columns * STRIDE, channels)
    found = [
      fcn.apply(model.config.model, variables, images) for variables in members
    ]
    return found[0] if len(found) == 1 else lax.concatenate(found, 3)

  with _only_errors('jax2onnx'), _only_errors('onnx_ir'):
    return jax2onnx.to_onnx(
      logits,
      [('B', 'h', STRIDE, 'w', STRIDE, model.config.data.channels)],
      model_name='cellseg',
      opset=OPSET,
      input_names=['blocks'],
      output_names=['logits'],
    )


@contextlib.contextmanager
def _only_errors(name: str) -> Iterator[None]:
  """Silences a logger's warnings about plugins and shapes not used here."""
  logger = logging.getLogger(name)
  level = logger.level
  logger.setLevel(logging.ERROR)
  try:
    yield
  finally:
    logger.setLevel(level)
