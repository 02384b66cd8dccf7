"""Where the time of a compiled program goes, by XLA's own profiler.

The profiler names instructions of the compiled program; its text says what each
computes, and from which line of the network's it came.
"""

from collections import Counter
from collections.abc import Callable
import functools
import pathlib
import re
import tempfile
from typing import Any

from benchmarks import networks

# What an instruction computes, by the first of these that it contains.
KINDS = (
  (('convolution', 'dot', 'custom-call'), 'convolutions and products'),
  (('reduce', 'reduce-window'), 'reductions'),
  (('gather', 'scatter'), 'gathers'),
  (('copy', 'transpose'), 'copies'),
)
# Parts of a training step, by what JAX writes of an instruction's origin.
PARTS = (
  ('transpose(jvp', 'backward'),
  ('jvp(', 'forward'),
  ('vmap(', 'crops'),
  ('FCN', 'forward'),
)


def network(side: int, crop: int) -> dict[str, dict[str, float]]:
  """Profiles the full-width network, prints and returns the shares.

  Args:
    side: Of the image of the forward pass.
    crop: Side of the eight crops of a training step.
  """
  import jax

  from cellseg_jax.model import fcn

  found = {}
  for head in ('transposed', 'skips'):
    config = networks.configuration(head)
    variables = fcn.init(jax.random.key(0), config.model, 1)
    forward = functools.partial(fcn.apply, config.model)
    images = networks.pixels(1, side)
    found[f'forward, {head} head'] = shares(forward, variables, images)
    found[f'training step, {head} head'] = shares(
      *networks.step_program(networks.colonies(), config, 8, crop)
    )
  for name, of in found.items():
    print(f'\n{name}\n{table(of)}', flush=True)
  return found


def shares(
  function: Callable[..., Any], *args: Any, calls: int = 5
) -> dict[str, float]:
  """Profiles a function.

  Args:
    function: Pure, of arrays.
    *args: What it is called with.
    calls: How often, after a first one.

  Returns:
    Share of the instructions' summed time by 'part: kind', largest first.
  """
  import jax

  compiled = jax.jit(function).lower(*args).compile()
  jax.block_until_ready(compiled(*args))
  with tempfile.TemporaryDirectory() as folder:
    with jax.profiler.trace(folder):
      for _ in range(calls):
        jax.block_until_ready(compiled(*args))
    (path,) = pathlib.Path(folder).rglob('*.xplane.pb')
    trace = jax.profiler.ProfileData.from_file(str(path))
  named = classified(compiled.as_text())
  found: Counter[str] = Counter()
  for plane in trace.planes:
    for line in plane.lines:
      for event in line.events:
        # On GPUs the event is a kernel, which says what it is of.
        name = dict(event.stats).get('hlo_op', event.name)
        if name in named:
          found[named[name]] += event.duration_ns
  total = found.total()
  return {name: time / total for name, time in found.most_common()}


def classified(text: str) -> dict[str, str]:
  """Returns 'part: kind' of every instruction of a compiled program's text."""
  bodies = dict(re.findall(r'^%(\S+) \([^\n]*\{\n(.*?)\n\}', text, re.M | re.S))
  found = {}
  for name, rest in re.findall(r'%([\w.-]+) = ([^\n]*)', text):
    called = re.search(r'calls=%([\w.-]+)', rest)
    body = bodies.get(called[1], '') if called else f'= {rest}'
    operations = set(re.findall(r'= \S+ ([\w-]+)\(', body))
    origin = ' '.join(re.findall(r'op_name="([^"]*)"', f'{rest} {body}'))
    found[name] = f'{_part(origin)}: {_kind(operations)}'
  return found


def _part(origin: str) -> str:
  return next((part for sign, part in PARTS if sign in origin), 'update')


def _kind(operations: set[str]) -> str:
  for signs, kind in KINDS:
    if operations & set(signs):
      return kind
  return 'element by element'


def table(found: dict[str, float], least: float = 0.01) -> str:
  """Returns shares in Markdown; those below `least` together."""
  rows = [(name, share) for name, share in found.items() if share >= least]
  rows.append(('the rest', 1 - sum(share for _, share in rows)))
  lines = [f'| {name} | {100 * share:.0f} % |' for name, share in rows]
  return '\n'.join(['| part: kind | share |', '|---|---|', *lines])
