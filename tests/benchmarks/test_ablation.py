"""The ablation's table, from figures made up."""

from benchmarks import ablation


def test_differences_are_to_the_whole_on_the_same_set_and_seed():
  done = {
    'all/a/0': {'mean_f1': 0.8, 'auc': 0.99},
    'all/b/0': {'mean_f1': 0.6, 'auc': 0.97},
    'no_blur/a/0': {'mean_f1': 0.7, 'auc': 0.99},
    'no_blur/b/0': {'mean_f1': 0.3, 'auc': 0.97},
  }
  lines = ablation.table(['all', 'no_blur'], done).splitlines()
  assert lines[2] == (
    '| all | 0.7000 | +0.0000 ± 0.0000 | 0.9800 | +0.0000 ± 0.0000 | 2 |'
  )
  assert lines[3] == (
    '| no_blur | 0.5000 | -0.2000 ± 0.1000 | 0.9800 | +0.0000 ± 0.0000 | 2 |'
  )


def test_the_parts_are_those_of_the_experiment():
  assert {'all', 'no_scale', 'label_smoothing'} <= set(ablation.PARTS)
