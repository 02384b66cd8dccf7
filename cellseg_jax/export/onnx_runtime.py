"""Running of exported ONNX files, to compare them with their model."""

import pathlib

import numpy as np
import onnxruntime


def run(path: pathlib.Path, pixels: np.ndarray) -> dict[str, np.ndarray]:
  """Computes the maps of an exported model on the CPU.

  Args:
    path: A file that `export_onnx` wrote.
    pixels: float32 (B, C, H, W), normalised.

  Returns:
    The maps by name, float32 (B, H, W), 0 to 1.
  """
  options = onnxruntime.SessionOptions()
  options.log_severity_level = 3  # Errors only.
  session = onnxruntime.InferenceSession(
    str(path), options, providers=['CPUExecutionProvider']
  )
  names = [output.name for output in session.get_outputs()]
  maps = session.run(names, {'image': pixels})
  return {name: values[:, 0] for name, values in zip(names, maps, strict=True)}
