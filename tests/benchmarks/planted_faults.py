"""Plants faults in labels and counts how many `cellseg audit` finds.

  python tests/benchmarks/planted_faults.py --data FOLDER --out OUT

FOLDER holds `images/` and `labels/`. A cross-validation on the labels as they
are shows where held-out models agree with them (IoU of at least 0.7); there, 10
pairs of touching cells are merged, 10 cells deleted and 10 shifted by a third
of their diameter. The audit of these labels trains all its models anew. A fault
counts as found where the suspect is the faulty label, or the predicted cell in
the place of a deleted one. A stopped call goes on.
"""

import argparse
from collections.abc import Sequence
import dataclasses
import json
import math
import pathlib
import shutil

from matplotlib.figure import Figure
import numpy as np
from scipy import ndimage

from cellseg_jax.cli import process
from cellseg_jax.config import Config
from cellseg_jax.evaluation.matching import overlap_table
from cellseg_jax.experiments import cells
from cellseg_jax.images import formats
from cellseg_jax.serialization import replace
from cellseg_jax.studies.audit import audit
from cellseg_jax.studies.held_out import leave_one_out

EACH = 10  # Faults of a kind.
KINDS = ('merged', 'deleted', 'shifted')
AGREED = 0.7  # Least IoU of label and prediction where a fault is planted.
LOOKED_AT = 45
# A shifted label keeps this share of its pixels at least: the rest falls on
# other labels or off the image.
KEPT = 0.9


@dataclasses.dataclass(frozen=True)
class Fault:
  """A planted fault.

  Attributes:
    image: Name of the image.
    kind: One of `KINDS`.
    value: Of the faulty label; of a deleted cell what it was.
    row: Of the middle of what was there before.
    column: Likewise.
  """

  image: str
  kind: str
  value: int
  row: float
  column: float


def plant(
  labels: dict[str, np.ndarray],
  predicted: dict[str, np.ndarray],
  seed: int,
  each: int = EACH,
) -> tuple[dict[str, np.ndarray], list[Fault]]:
  """Returns the labels with faults, and the faults.

  Args:
    labels: By image name, int (H, W).
    predicted: Cells of models that did not train on the image, likewise.
    seed: Chooses cells and directions.
    each: Faults of a kind.

  Raises:
    ValueError: There are too few cells on which both agree.
  """
  rng = np.random.default_rng(seed)
  planted = {name: values.copy() for name, values in labels.items()}
  free = [
    (name, int(value))
    for name in labels
    for value in agreed(labels[name], predicted[name])
  ]
  rng.shuffle(free)
  faults: list[Fault] = []
  # The rarest first: few cells touch.
  for kind in KINDS:
    made = 0
    for name, value in list(free):
      if made == each:
        break
      if (name, value) not in free:
        continue
      own = [other for image, other in free if image == name]
      done = _PLANT[kind](planted[name], value, own, rng)
      if done is None:
        continue
      for used in done:
        free.remove((name, used))
      before = labels[name] == value
      faults.append(
        Fault(name, kind, value, *map(float, np.argwhere(before).mean(0)))
      )
      made += 1
    if made < each:
      raise ValueError(f'only {made} of {each} cells could be {kind}')
  return planted, faults


def agreed(labels: np.ndarray, predicted: np.ndarray) -> np.ndarray:
  """Returns the labels that a prediction meets with an IoU of `AGREED`."""
  table = overlap_table(labels, predicted)
  return table.true_labels[table.true_index[table.iou >= AGREED]]


def _merge(labels, value, others, rng) -> tuple[int, ...] | None:
  """Gives a touching cell this one's value."""
  del rng
  cell = labels == value
  around = labels[ndimage.binary_dilation(cell, np.ones((3, 3))) & ~cell]
  touching = np.intersect1d(around, [o for o in others if o != value])
  if not touching.size:
    return None
  # The one of the longest common border.
  other = int(max(touching, key=lambda one: (around == one).sum()))
  labels[labels == other] = value
  return value, other


def _delete(labels, value, others, rng) -> tuple[int, ...]:
  del others, rng
  labels[labels == value] = 0
  return (value,)


def _shift(labels, value, others, rng) -> tuple[int, ...] | None:
  """Moves a cell by a third of its diameter, where there is room."""
  del others
  places = np.argwhere(labels == value)
  length = 2 * math.sqrt(len(places) / math.pi) / 3
  start = rng.uniform(0, 2 * math.pi)
  for angle in start + np.arange(8) * math.pi / 4:
    step = np.rint(length * np.array([math.sin(angle), math.cos(angle)]))
    moved = places + step.astype(int)
    inside = ((moved >= 0) & (moved < labels.shape)).all(1)
    rows, columns = moved[inside].T
    room = np.isin(labels[rows, columns], (0, value))
    if room.sum() >= KEPT * len(places):
      labels[labels == value] = 0
      labels[rows[room], columns[room]] = value
      return (value,)
  return None


_PLANT = {'merged': _merge, 'deleted': _delete, 'shifted': _shift}


def ranks(
  faults: Sequence[Fault],
  suspects: Sequence[dict],
  labels: dict[str, np.ndarray],
  radius: float,
) -> list[int | None]:
  """Returns the rank at which each fault is found; None where it is not.

  Args:
    faults: As `plant` returns.
    suspects: Of the report of an audit.
    labels: Before the faults.
    radius: Pixels by which the middle of a predicted cell may lie outside the
      deleted one.
  """
  found: list[int | None] = []
  for fault in faults:
    rank = None
    if fault.kind == 'deleted':
      distance = ndimage.distance_transform_edt(
        labels[fault.image] != fault.value
      )
    for suspect in suspects:
      if suspect['image'] != fault.image:
        continue
      if fault.kind == 'deleted':
        place = round(suspect['row']), round(suspect['column'])
        place = tuple(np.minimum(place, np.subtract(distance.shape, 1)))
        met = suspect['kind'] == 'unlabelled' and distance[place] <= radius
      else:
        met = suspect['kind'] == 'label' and suspect['value'] == fault.value
      if met:
        rank = suspect['rank']
        break
    found.append(rank)
  return found


def main() -> None:
  parser = argparse.ArgumentParser(description=__doc__.split('\n')[0])
  parser.add_argument('--data', type=pathlib.Path, required=True)
  parser.add_argument('--out', type=pathlib.Path, required=True)
  parser.add_argument('--clean_steps', type=int, default=200)
  parser.add_argument('--steps', type=int, default=600)
  parser.add_argument('--batch_size', type=int, default=4)
  parser.add_argument('--seed', type=int, default=0)
  arguments = parser.parse_args()
  process.prepare()
  out = arguments.out
  # Rough models tell well enough where they agree with the labels.
  rough = {'steps': arguments.clean_steps}
  clean = leave_one_out(_on(arguments.data, **rough), out / 'clean')
  labels = {one.image.name: one.image.labels for one in clean}
  planted, faults = plant(
    labels, {one.image.name: one.predicted for one in clean}, arguments.seed
  )
  folder = out / f'planted{arguments.seed}'
  shutil.copytree(
    arguments.data / 'images', folder / 'images', dirs_exist_ok=True
  )
  (folder / 'labels').mkdir(exist_ok=True)
  for name, values in planted.items():
    formats.write_labels(folder / 'labels' / f'{name}.tif', values)
  schedule = {'steps': arguments.steps, 'batch_size': arguments.batch_size}
  report = audit(_on(folder, **schedule), out / f'audit{arguments.seed}')
  found = ranks(faults, report['suspects'], labels, radius=3)
  within = [rank is not None and rank <= LOOKED_AT for rank in found]
  result = {
    **schedule,
    'seed': arguments.seed,
    'suspects': len(report['suspects']),
    'found': sum(within),
    'found_by_kind': {
      kind: sum(
        one
        for one, fault in zip(within, faults, strict=True)
        if fault.kind == kind
      )
      for kind in KINDS
    },
    'faults': [
      {**dataclasses.asdict(fault), 'rank': rank}
      for fault, rank in zip(faults, found, strict=True)
    ],
  }
  path = out / f'planted_faults{arguments.seed}.json'
  path.write_text(json.dumps(result, indent=1) + '\n')
  draw(path.with_suffix('.png'), result)
  print(
    f'{result["found"]} of {len(faults)} faults among the first {LOOKED_AT} of '
    f'{result["suspects"]} suspects: {result["found_by_kind"]}'
  )


def draw(path: pathlib.Path, result: dict) -> None:
  """Draws how many faults are found against how many cells are looked at."""
  figure = Figure(figsize=(6, 4), layout='constrained')
  axes = figure.subplots()
  looked = np.arange(1, result['suspects'] + 1)
  for kind in KINDS:
    own = [
      fault['rank'] or math.inf
      for fault in result['faults']
      if fault['kind'] == kind
    ]
    axes.step(looked, [sum(r <= n for r in own) for n in looked], label=kind)
  every = [fault['rank'] or math.inf for fault in result['faults']]
  axes.step(
    looked, [sum(r <= n for r in every) for n in looked], 'k', label='all'
  )
  axes.plot(
    looked, looked * len(every) / result['suspects'], 'k:', label='by chance'
  )
  axes.axvline(LOOKED_AT, color='0.7')
  axes.set(
    xlabel='suspects looked at',
    ylabel='planted faults found',
    title=f'{result["found"]} of {len(every)} among the first {LOOKED_AT}',
  )
  axes.legend(loc='lower right')
  figure.savefig(path, dpi=130)


def _on(folder: pathlib.Path, **training: int) -> Config:
  return replace(cells(), data={'path': str(folder)}, training=training)


if __name__ == '__main__':
  main()
