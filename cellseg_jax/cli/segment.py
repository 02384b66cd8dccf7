"""`cellseg segment`: writes label images, tables and pictures of image files.

This module runs the command; `segment_options` declares its arguments.
"""

import argparse
from collections.abc import Iterable, Sequence
import contextlib
import functools
import pathlib
import sys
from typing import Any, TYPE_CHECKING

from cellseg_jax.cli import process, segment_options

if TYPE_CHECKING:
  from cellseg_jax.cluster.tasks import Cluster
  from cellseg_jax.inference.batch import Job, Outcome
  from cellseg_jax.inference.files import Options
  from cellseg_jax.inference.predict import Model

INTERRUPTED = 130  # Exit code, as in shells: 128 plus the number of SIGINT.


def run(arguments: argparse.Namespace) -> int:
  """Segments files; prints a line for each, and at the end those that failed.

  Args:
    arguments: The arguments that `segment_options.add_arguments` declares.

  Returns:
    The exit code, which is 0; 1 if a file failed or the run had to stop; 2 if
    it could not begin; 130 if it was interrupted.
  """
  process.prepare()
  with contextlib.ExitStack() as stack:
    return _run(arguments, stack)


def _run(arguments: argparse.Namespace, stack: contextlib.ExitStack) -> int:
  """Does the work of `run`; the cluster is closed together with `stack`."""
  # Imported late, so that `cellseg --help` does not wait for JAX.
  from cellseg_jax.cluster.connect import ClusterError
  from cellseg_jax.inference import batch, records

  out = pathlib.Path(arguments.out)
  try:
    model, options, jobs = _prepare(arguments, out)
    common = batch.digest(model, options)
    todo, again = batch.left_to_do(jobs, out, common)
    records.merge(out)
    _say_what_is_left(len(jobs), len(todo), again)
    cluster = _cluster(arguments.dask, stack) if todo else None
  except (ValueError, OSError, ClusterError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 2
  try:
    if cluster:
      from cellseg_jax.cluster import segment, work

      of_run = work.Work(tuple(arguments.model), out, options, common)
      outcomes = segment.segment_files(cluster, model, todo, of_run)
    else:
      outcomes = batch.segment_files(model, todo, out, options, common)
    failed = _segment(outcomes, out, len(todo), arguments.list_below, cluster)
    records.merge(out)
  except KeyboardInterrupt:
    print(
      'interrupted; the same command goes on where this ended', file=sys.stderr
    )
    return INTERRUPTED
  except (OSError, ValueError, ClusterError) as error:
    print(f'error: {error}', file=sys.stderr)
    return 1
  if failed:
    print(
      f'{len(failed)} of {len(todo)} files failed: {", ".join(failed)}',
      file=sys.stderr,
    )
  return 1 if failed else 0


def _cluster(address: str, stack: contextlib.ExitStack) -> 'Cluster | None':
  """Connects to a cluster and prints its dashboard; None if not asked for."""
  if not address:
    return None
  from cellseg_jax.cluster import connect, tasks

  client = stack.enter_context(connect.connected(address, process.prepare))
  print(f'dashboard of the cluster: {client.dashboard_link}', flush=True)
  return tasks.Cluster(client)


def _prepare(
  arguments: argparse.Namespace, out: pathlib.Path
) -> tuple['Model', 'Options', list['Job']]:
  """Finds the files, loads the model and creates the output folder."""
  from cellseg_jax.inference import batch, inputs
  from cellseg_jax.inference.ensemble import ensemble
  from cellseg_jax.inference.load import load_model
  from cellseg_jax.inference.predict import with_settings

  options = segment_options.options(arguments)
  images = inputs.find_images(arguments.paths)
  inputs.check_output(arguments.paths, out)
  names = inputs.output_names(images, out, f'.{arguments.format}')
  model = ensemble([load_model(folder) for folder in arguments.model])
  with_settings(model, arguments.decoding)  # Refuses unknown ones at once.
  out.mkdir(parents=True, exist_ok=True)
  jobs = list(map(batch.Job, images, names))
  return model, options, inputs.shard(jobs, *arguments.shard)


def _say_what_is_left(jobs: int, todo: int, again: int) -> None:
  if todo < jobs:
    print(
      f'{jobs - todo} of {jobs} files are done already; {todo} are missing, '
      'changed or failed',
      flush=True,
    )
  elif again:
    print(f'{again} files were done otherwise or failed, and are done again')


def _segment(
  outcomes: Iterable['Outcome'],
  out: pathlib.Path,
  count: int,
  list_below: float,
  cluster: 'Cluster | None',
) -> list[str]:
  """Prints the outcome of each file; returns the files that failed."""
  from cellseg_jax.progress import progress_bar

  failed, pixels = [], 0
  # In a log file, the line for each file is enough.
  with progress_bar(count, 'segmenting', 'files', lines=False) as bar:
    if cluster:
      cluster.watch = functools.partial(_show_tasks, bar)
    for outcome in outcomes:
      record = outcome.record
      if record.status == 'failed':
        failed.append(record.file)
        bar.write(f'{record.file}: failed: {record.reason}', file=sys.stderr)
      else:
        bar.write(
          f'{record.file} -> {out / record.outputs[-1]}: {record.cells} cells, '
          f'{record.seconds:.1f} s',
          file=sys.stdout,
        )
        _list_unsure(bar, outcome.confidence, list_below)
      if record.warning:
        bar.write(f'{record.file}: {record.warning}', file=sys.stderr)
      sys.stdout.flush()
      pixels += outcome.pixels
      bar.update()
      seconds = bar.format_dict['elapsed']
      speed = f'{pixels / 1e6 / max(seconds, 1e-3):.2f} MP/s'
      threads = f' on {cluster.threads} threads' if cluster else ''
      bar.set_postfix_str(f'{speed}{threads}')
  return failed


def _show_tasks(bar: Any, done: int, total: int) -> None:
  """Shows the progress of the cluster on the blocks of a large file."""
  bar.set_postfix_str(f'block {done} of {total or "?"}')


def _list_unsure(
  bar: Any, frames: Sequence[dict[int, float]], below: float
) -> None:
  for number, cells in enumerate(frames):
    where = f'frame {number}, ' if len(frames) > 1 else ''
    for label, confidence in cells.items():
      if confidence < below:
        bar.write(
          f'  {where}label {label}: confidence {confidence:.2f}',
          file=sys.stdout,
        )
