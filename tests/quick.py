"""Compiles quickly rather than to run quickly: tests run once."""

import functools

import jax


def accepted(option, value):
  """Whether this version of XLA knows the option."""
  try:
    jax.jit(lambda x: x + 1, compiler_options={option: value})(0)
  except RuntimeError:
    return False
  return True


OPTIONS = {
  option: value
  for option, value in (
    ('xla_backend_optimization_level', 0),
    ('xla_cpu_use_fusion_emitters', False),
  )
  if accepted(option, value)
}

jit = functools.partial(jax.jit, compiler_options=OPTIONS)
