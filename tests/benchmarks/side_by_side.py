"""Times alternatives side by side: each in a process of its own, by turns.

A process has its own thread pool, so that no library waits for another's, and
its own peak of memory. Only one computes at a time. In every round each
alternative runs once; ratios are taken within rounds, so that what slows the
machine for a while slows both sides.
"""

from collections.abc import Callable, Mapping, Sequence
import dataclasses
import multiprocessing
from multiprocessing.connection import Connection
import pathlib
import re
import time
import traceback

import numpy as np

# Calls shorter than this are repeated within a round.
LEAST_SECONDS = 0.2

Make = Callable[[], Callable[[], object]]


@dataclasses.dataclass(frozen=True)
class Timing:
  """What one alternative took.

  Attributes:
    seconds: A call, in each round; empty where it failed.
    first: Seconds of the first call, compiling included.
    peak: Largest resident memory of its process, in bytes.
    failed: Why it could not run, else ''.
  """

  seconds: tuple[float, ...] = ()
  first: float = float('nan')
  peak: int = 0
  failed: str = ''

  @property
  def median(self) -> float:
    """Of the rounds, in seconds."""
    return float(np.median(self.seconds)) if self.seconds else float('nan')


def compare(
  alternatives: Mapping[str, Make], rounds: int = 9
) -> dict[str, Timing]:
  """Times alternatives.

  Args:
    alternatives: By name, a function that can be pickled; called in the
      alternative's process it returns what is to be timed: a function without
      arguments that returns when its work is done.
    rounds: Calls of each, after a first one.

  Returns:
    Timings by name.
  """
  context = multiprocessing.get_context('spawn')
  ends, processes, found, seconds = {}, {}, {}, {}
  try:
    for name, make in alternatives.items():
      ends[name], theirs = context.Pipe()
      processes[name] = context.Process(target=_serve, args=(theirs, make))
      processes[name].start()
      theirs.close()
      # One after the other: compiling keeps all cores busy.
      found[name] = _received(ends[name])
    running = [name for name in ends if not found[name].failed]
    seconds = {name: [] for name in running}
    for number in range(rounds):
      for name in running[number % 2 :] + running[: number % 2]:
        ends[name].send(True)
        seconds[name].append(ends[name].recv())
    for name in running:
      ends[name].send(False)
      peak = ends[name].recv()
      found[name] = dataclasses.replace(
        found[name], seconds=tuple(seconds[name]), peak=peak
      )
  finally:
    for name, process in processes.items():
      ends[name].close()
      process.join(10)
      if process.is_alive():
        process.terminate()
  return found


def _received(end: Connection) -> Timing:
  """Waits for the first call; a process may have died in it."""
  try:
    return end.recv()
  except EOFError:
    return Timing(failed='its process ended')


def _serve(end: Connection, make: Make) -> None:
  """Runs in the alternative's process."""
  try:
    call = make()
    first = _seconds(call)
    second = _seconds(call)
  except Exception as error:
    said = traceback.format_exception_only(error)[-1].strip()
    end.send(Timing(failed=said.partition('\n')[0]))
    return
  end.send(Timing(first=first))
  repeats = max(1, int(np.ceil(LEAST_SECONDS / second)))
  while end.recv():
    start = time.perf_counter()
    for _ in range(repeats):
      call()
    end.send((time.perf_counter() - start) / repeats)
  end.send(peak_memory())


def _seconds(call: Callable[[], object]) -> float:
  start = time.perf_counter()
  call()
  return time.perf_counter() - start


def peak_memory() -> int:
  """Returns the largest resident memory of this process so far, in bytes.

  `getrusage` would count what the parent had when this process was forked.
  """
  status = pathlib.Path('/proc/self/status').read_text()
  return 1024 * int(re.search(r'VmHWM:\s+(\d+) kB', status)[1])


def ratio(ours: Timing, theirs: Timing) -> tuple[float, float, float]:
  """Returns how many times as long ours takes: median and quartiles."""
  if not ours.seconds or not theirs.seconds:
    return (float('nan'),) * 3
  ratios = np.divide(ours.seconds, theirs.seconds)
  low, median, high = np.percentile(ratios, (25, 50, 75))
  return float(median), float(low), float(high)


def table(timings: Mapping[str, Timing], ours: Sequence[str]) -> str:
  """Returns timings in Markdown, and the ratios of ours to the others.

  Args:
    timings: As `compare` returns.
    ours: Which of them are ours: a column of ratios each.
  """
  head = ['', 's', 'first call, s', 'peak, MB']
  head += [f'{name}, times' for name in ours]
  lines = [f'| {" | ".join(head)} |', '|---' * len(head) + '|']
  for name, timing in timings.items():
    if timing.failed:
      lines.append(f'| {name} | not run: {timing.failed} |')
      continue
    row = [name, f'{timing.median:.3f}', f'{timing.first:.1f}']
    row.append(f'{timing.peak / 1e6:.0f}')
    for mine in ours:
      if mine == name:
        row.append('')
        continue
      median, low, high = ratio(timings[mine], timing)
      row.append(f'{median:.2f} ({low:.2f}-{high:.2f})')
    lines.append(f'| {" | ".join(row)} |')
  return '\n'.join(lines)
