"""`cellseg doctor` on machines of several kinds."""

import subprocess
import sys

import jax
import pytest

from cellseg_jax import environment
from cellseg_jax.cli import doctor, main, process
from cellseg_jax.training import self_test

GPU = 'NVIDIA H100, 580.95, 81000 MiB, 81559 MiB\n'


@pytest.fixture
def examine(monkeypatch, capsys):
  """Runs the command, without its self-test; returns its code and lines."""
  monkeypatch.setattr(process, 'prepare', lambda: None)
  passed = self_test.Result(0.9, 0.3, 0.99, 9, 1.0)
  monkeypatch.setattr(self_test, 'self_test', lambda: passed)

  def run():
    monkeypatch.setattr(sys, 'argv', ['cellseg', 'doctor'])
    code = main.run()
    return code, capsys.readouterr().out

  return run


def pretend(monkeypatch, *, driver, plugin='', platforms=''):
  def nvidia_smi(*_, **__):
    if not driver:
      raise FileNotFoundError
    return subprocess.CompletedProcess([], 0, driver, '')

  monkeypatch.setattr(doctor.subprocess, 'run', nvidia_smi)
  monkeypatch.setenv('JAX_PLATFORMS', platforms)
  version = environment.version
  monkeypatch.setattr(
    environment,
    'version',
    lambda name: plugin if 'plugin' in name else version(name),
  )


def test_a_sound_machine(monkeypatch, examine):
  pretend(monkeypatch, driver='')
  code, text = examine()
  assert code == 0
  assert text.endswith('Everything works.\n')
  for subject in (
    'versions',
    'memory',
    'devices',
    'CUDA',
    'compiled programs',
    'disk, here',
    'disk, cache',
    'self-test',
  ):
    assert f'{subject}:' in text
  assert f'jax {jax.__version__}' in text
  assert 'no NVIDIA driver here' in text


@pytest.mark.skipif(jax.default_backend() != 'cpu', reason='needs no GPU')
@pytest.mark.parametrize(
  ('options', 'code', 'said'),
  [
    ({}, 1, "pip install 'cellseg_jax[cuda]'"),
    ({'plugin': '0.10.2'}, 1, '0.10.2 is installed, but JAX cannot use it: '),
    ({'platforms': 'cpu'}, 0, 'not used: JAX_PLATFORMS is cpu; NVIDIA H100'),
  ],
)
def test_why_a_gpu_is_not_used(monkeypatch, examine, options, code, said):
  pretend(monkeypatch, driver=GPU, **options)
  found, text = examine()
  assert found == code
  assert said in text
  assert '81000 MiB free of 81559 MiB' in text
  assert ('Broken: CUDA: ' in text) == (code == 1)


def test_versions_that_do_not_fit(monkeypatch, examine):
  pretend(monkeypatch, driver='')
  wanted = {'numpy': '>=1.26', 'jax': '<0.5', 'no-such-package': '>=1'}
  monkeypatch.setattr(environment, 'requirements', lambda: wanted)
  code, text = examine()
  assert code == 1
  assert f'jax {jax.__version__} is installed, needed is <0.5' in text
  assert 'no-such-package is not installed' in text
  assert 'numpy is' not in text


def test_a_full_disk(monkeypatch, examine):
  pretend(monkeypatch, driver='')
  monkeypatch.setattr(doctor, 'LEAST_DISK', 2**70)
  code, text = examine()
  assert code == 1
  assert text.count('make room') == 3


def test_a_self_test_that_fails(monkeypatch, examine):
  pretend(monkeypatch, driver='')

  def fails():
    raise self_test.SelfTestError('the loss is\n not finite')

  monkeypatch.setattr(self_test, 'self_test', fails)
  code, text = examine()
  assert code == 1
  assert 'Broken: self-test: SelfTestError: the loss is not finite' in text


def test_requirements_are_those_without_extras():
  found = environment.requirements()
  assert found['jax'].startswith('>=')
  assert 'pytest' not in found
  assert 'onnx' not in found


def test_the_self_test_learns():
  found = self_test.self_test()
  assert found.last < 0.6 * found.first
  assert found.auc > self_test.LEAST_AUC
  assert 7 <= found.cells <= 11


@pytest.mark.slow
def test_what_was_not_learnt_is_found(monkeypatch):
  monkeypatch.setattr(self_test, 'LEAST_AUC', 1.1)
  with pytest.raises(self_test.SelfTestError, match='discs were not learnt'):
    self_test.self_test()
