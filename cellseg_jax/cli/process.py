"""Process-wide settings: memory allocation, compilation cache, determinism.

Called by the commands and never on import, as they hold for the whole process.
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

# Maximum size of the compilation cache, in bytes; the least recently used
# programs are evicted first.
CACHE_SIZE = 2**30
# Minimum compilation time, in seconds, of programs that are cached.
CACHED_FROM = 0.1


def prepare(deterministic: bool = False) -> None:
  """Sets up the process.

  Must be called before its first thread and its first computation.

  Args:
    deterministic: Whether GPUs must compute reproducibly, bit for bit.
  """
  keep_freed_blocks()
  keep_compiled_programs()
  if deterministic:
    compute_the_same_bits()


def keep_freed_blocks() -> bool:
  """Makes glibc keep freed memory for later allocations.

  By default it returns large blocks to the system at once, and every training
  step has to fault in its 400 MB again: on one CPU core, a step of the case
  study takes 96,000 page faults and 1.59 s instead of none and 1.07 s. The
  setting holds for the whole process and must precede its first thread.

  Returns:
    Whether the settings were made; other C libraries do not have them.
  """
  try:
    mallopt = ctypes.CDLL(None).mallopt
  except (AttributeError, OSError, TypeError):  # musl, macOS, Windows.
    return False
  # A single arena: the arenas of other threads are mapped block by block and
  # cannot keep freed memory.
  settings = ((M_ARENA_MAX, 1), (M_MMAP_MAX, 0), (M_TRIM_THRESHOLD, -1))
  return all([mallopt(name, value) == 1 for name, value in settings])


def keep_compiled_programs() -> pathlib.Path | None:
  """Makes JAX cache compiled programs on disk for later processes.

  If `JAX_COMPILATION_CACHE_DIR` is set, nothing is changed.

  Returns:
    The folder, `~/.cache/cellseg_jax/compiled/HOST` (or below
    `XDG_CACHE_HOME`). None if JAX already has a cache folder, or if this one
    cannot be created or written to or belongs to another user; in these cases
    nothing is changed, and without a cache folder every process compiles again.
  """
  import jax

  if jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
    return None
  folder = user_cache() / 'compiled' / _host()
  try:
    # Cached programs are executed, so nobody else may write to the folder.
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
  """Makes XLA use deterministic operations on GPUs, without autotuning."""
  from cellseg_jax.training.parallel import DETERMINISTIC

  told = os.environ.get('XLA_FLAGS', '').split()
  if DETERMINISTIC not in told:
    # If a flag is given twice, XLA takes the last one.
    os.environ['XLA_FLAGS'] = ' '.join([*told, DETERMINISTIC])


def _host() -> str:
  """Returns a name for the parts of the host that JAX's cache key leaves out.

  These are the instruction set of the processor, as a home folder may be shared
  by several machines, and the number of cores, by which XLA splits loops.
  """
  try:
    lines = pathlib.Path('/proc/cpuinfo').read_text().splitlines()
    names = ('flags', 'Features', 'model name')
    told = sorted({line for line in lines if line.startswith(names)})
  except OSError:
    told = [platform.processor()]
  digest = hashlib.sha256('\n'.join(told).encode()).hexdigest()[:16]
  return f'{platform.machine()}-{cores()}-{digest}'
