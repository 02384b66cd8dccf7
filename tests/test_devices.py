"""Whole runs on several devices, and in processes that import little."""

import sys

import numpy as np
import pytest
from whole_runs import command, kill_after_a_checkpoint, losses, run, STEPS


def test_four_devices_train_as_one(data, tmp_path):
  curves = {}
  for devices in (1, 4):
    workdir = tmp_path / str(devices)
    result = run(
      command(
        data,
        workdir,
        training__steps=5,
        training__evaluate_every=5,
        # Batch statistics of a few pixels would amplify rounding.
        training__batch_size=8,
        training__crop_size=96,
        # Crops of very unequal weight, some of them empty.
        targets__edge_weight=50.0,
        # As the quickstart: updates in proportion to the gradient. RMSprop's
        # own first ones are its signs, those of rounding errors included.
        optimizer__initial_scale=1.0,
        optimizer__learning_rate=2e-4,
      ),
      devices,
    )
    assert result.returncode == 0, result.stderr
    curves[devices] = losses(workdir)
  np.testing.assert_allclose(curves[4], curves[1], rtol=1e-5)


@pytest.mark.slow
def test_a_checkpoint_goes_on_with_other_devices(data, tmp_path):
  workdir = tmp_path / 'run'
  arguments = command(data, workdir)
  kill_after_a_checkpoint(arguments, workdir, devices=4)
  result = run(arguments, devices=2)
  assert result.returncode == 0, result.stderr
  assert 'Going on from step' in result.stdout
  assert 'changed device_count (then 4, now 2);' in result.stdout
  assert len(losses(workdir)) == STEPS


def test_a_batch_that_devices_cannot_share_is_refused(data, tmp_path):
  result = run(command(data, tmp_path / 'run'), devices=3)
  assert result.returncode == 2
  assert 'multiple of the 3 devices' in result.stderr
  assert 'nearest are 3 and 6' in result.stderr
  assert not (tmp_path / 'run').exists()


IMPORTS = """
import sys
from cellseg_jax.cli import train
assert train.main(sys.argv) == 0
assert 'tensorflow' not in sys.modules
print('absent after training')
"""

SEGMENTS = """
import sys
import numpy as np
import cellseg_jax
model = cellseg_jax.load_model(sys.argv[1])
cellseg_jax.segment(model, np.zeros((40, 50)))
assert 'tensorflow' not in sys.modules
assert 'tensorflow_datasets' not in sys.modules
print('absent after segmenting')
"""


def test_tensorflow_is_never_imported(data, tmp_path):
  arguments = command(
    data, tmp_path / 'run', training__steps=2, training__evaluate_every=2
  )
  result = run([sys.executable, '-c', IMPORTS, *arguments[2:]])
  assert 'absent after training' in result.stdout, result.stderr
  result = run([sys.executable, '-c', SEGMENTS, str(tmp_path / 'run')])
  assert 'absent after segmenting' in result.stdout, result.stderr
