"""How a program's process is set up: its memory, its compiled programs.

For programs and not for libraries: both hold for the whole process.
"""

import ctypes
import hashlib
import os
import pathlib
import platform

from cellseg_jax.cache import user_cache
from cellseg_jax.environment import cores

# <malloc.h>
M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8

# Of all compiled programs kept, in bytes; the least recently used go first.
CACHE_SIZE = 2**30
# Programs that compile faster, in seconds, are not kept.
CACHED_FROM = 0.1


def prepare(deterministic: bool = False) -> None:
  """Sets up the process; before its first thread and first computation.

  Args:
    deterministic: Whether GPUs are to give the same bits every time.
  """
  keep_freed_blocks()
  keep_compiled_programs()
  if deterministic:
    compute_the_same_bits()


def keep_freed_blocks() -> bool:
  """Makes glibc keep freed memory for the next allocation.

  By itself it returns large blocks to the system at once, and every training
  step then touches the pages of its 400 MB anew: 96,000 page faults and 1.59 s
  a step of the case study on one CPU core, instead of none and 1.07 s. For the
  whole process, before its first thread.

  Returns:
    Whether the C library has these settings; others are left as they are.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # musl, macOS, Windows.
    return False
  # One arena: those of other threads are mapped block by block and cannot keep.
  settings = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))
  return all([mallopt(name, value) == 1 for name, value in settings])


def keep_compiled_programs() -> pathlib.Path | None:
  """Makes JAX keep compiled programs for later processes.

  Where `JAX_COMPILATION_CACHE_DIR` is set, nothing is changed.

  Returns:
    The folder, `~/.cache/cellseg_jax/compiled/HOST` (or below
    `XDG_CACHE_HOME`); None where JAX was told another one, or where none can be
    made there: then every process compiles anew.
  """
  import jax

  if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    return None
  folder = user_cache() / 'compiled' / _host()
  try:
    # The programs are executed: nobody else may write there.
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
  except OSError:
    return None
  if not os.access(folder, os.W_OK) or folder.stat().st_uid != os.getuid():
    return None
  jax.config.update('jax_compilation_cache_dir', str(folder))
  jax.config.update('jax_compilation_cache_max_size', CACHE_SIZE)
  jax.config.update('jax_persistent_cache_min_compile_time_secs', CACHED_FROM)
  return folder


def compute_the_same_bits() -> None:
  """Makes XLA use deterministic operations on GPUs, and no autotuning."""
  from cellseg_jax.training.parallel import DETERMINISTIC

  told = os.environ.get('XLA_FLAGS', '').split()
  if DETERMINISTIC not in told:
    # Of a flag that is there twice, XLA takes the last.
    os.environ['XLA_FLAGS'] = ' '.join([*told, DETERMINISTIC])


def _host() -> str:
  """Names what compiled code depends on and JAX's own key leaves out.

  The instructions of the processor (a home folder may be shared by several
  machines) and the number of cores, for which XLA cuts loops into parts.
  """
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    names = ('flags', 'Features', 'model name')
    told = sorted({line for line in lines if line.startswith(names)})
  except OSError:
    told = [platform.processor()]
  digest = hashlib.sha256('\n'.join(told).encode()).hexdigest()[:16]
  return f'{platform.machine()}-{cores()}-{digest}'
