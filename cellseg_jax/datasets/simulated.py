"""Simulated fluorescence images of stem-cell colonies, with exact labels.

Mouse embryonic stem cells grow in tight colonies, several layers deep.
`simulate_colony` draws such a field: nuclei that press each other out of shape
with gaps of 0 to 5 px, mouse chromatin (bright chromocentres, dark nucleoli),
nuclei of other layers as haze, uneven illumination, and the noise of a camera
at low photon counts. Dead cells are small, bright, round and *not* labelled,
since a segmenter should leave them out.
"""

import functools
import pathlib

import numpy as np
from scipy import ndimage

from cellseg_jax.config import DataConfig
from cellseg_jax.datasets import colonies
from cellseg_jax.datasets.builder import LabelledImages, Listing, Pair
from cellseg_jax.datasets.colonies import draw_colonies, SIZE

SPLITS = {'train': 7, 'validation': 3, 'test': 3}  # Number of images of each.


def simulate_colony(
  seed: int | np.random.Generator,
) -> tuple[np.ndarray, np.ndarray]:
  """Simulates one field of stem-cell colonies.

  Args:
    seed: Seed or generator; the same seed gives the same image.

  Returns:
    The image, uint16 (1024, 1024), in camera counts; and its label image, int32
    (1024, 1024): 0 is background; each value from 1 to N (60 to 110) is one
    connected nucleus, 40 to 90 pixels long and not cut off by the image's
    border.
  """
  rng = np.random.default_rng(seed)
  labels = draw_colonies(rng)
  return _photograph(rng, _fluorescence(rng, labels)), labels


def _fluorescence(rng: np.random.Generator, labels: np.ndarray) -> np.ndarray:
  """Returns the light that reaches the camera, float (H, W), in photons."""
  count = labels.max()
  inside = labels > 0
  depth = ndimage.distance_transform_edt(inside & ~_touching(labels))
  thickness = 1 - 0.55 * np.exp(-depth / 4)
  # Grainy chromatin with bright chromocentres and dark nucleoli.
  spots, holes = _noise(rng, 2.2, 1), _noise(rng, 4.5, 2)
  chromatin = np.exp(0.16 * _noise(rng, 6, 2) + 0.10 * _noise(rng, 1.5, 1))
  chromatin += 0.55 * np.clip(spots - 1.5, 0, 1.2)
  chromatin *= 1 - 0.5 * np.clip(1.6 * (holes - 1.1), 0, 1)
  brightness = rng.lognormal(0, 0.34, count + 1)
  brightness[0] = 0
  nuclei = brightness[labels] * thickness * chromatin
  # Each nucleus is slightly out of focus, by its own amount.
  defocus = rng.uniform(0, 1, count + 1)[labels]
  sharp = ndimage.gaussian_filter(nuclei * (1 - defocus), 1.1)
  soft = ndimage.gaussian_filter(nuclei * defocus, 2.2)
  light = 46 * (sharp + soft) + 40 * _haze(rng, inside) + _dead(rng, inside)
  return light * _illumination(rng) + 9 * _illumination(rng)


def _touching(labels: np.ndarray) -> np.ndarray:
  """Marks the pixels whose 3x3 neighbourhood holds two or more labels."""
  low = ndimage.minimum_filter(np.where(labels, labels, np.inf), 3)
  return ndimage.maximum_filter(labels, 3) > low


def _haze(rng: np.random.Generator, inside: np.ndarray) -> np.ndarray:
  """Returns the glow of the cell layers above and below, about 0 to 1.

  Nuclei of these layers are so blurred that no outline is left to label.
  """
  step = 4
  small = inside[::step, ::step].astype(float)
  colony = ndimage.gaussian_filter(small, 60 / step)
  other = np.zeros_like(small)
  places = np.argwhere(ndimage.binary_dilation(small > 0, iterations=8))
  chosen = places[rng.integers(len(places), size=40)]
  np.add.at(other, tuple(chosen.T), rng.uniform(0.3, 1.0, len(chosen)))
  sigma = 22 / step
  layers = ndimage.gaussian_filter(other, sigma) * 2 * np.pi * sigma**2
  return _enlarge(1.3 * colony + 0.55 * layers)


def _dead(rng: np.random.Generator, inside: np.ndarray) -> np.ndarray:
  """Returns the light of a few small, round, bright dead cells near nuclei."""
  light = np.zeros(inside.shape)
  room = 4 * ndimage.distance_transform_edt(~inside[::4, ::4])
  half = 40
  near = 4 * np.argwhere((room > 16) & (room < 120))
  near = near[((near > half) & (near < SIZE - half)).all(axis=1)]
  y, x = np.mgrid[-half : half + 1, -half : half + 1]
  for cy, cx in near[rng.integers(len(near), size=rng.integers(4, 9))]:
    cell = np.zeros(y.shape)
    for _ in range(rng.integers(1, 4)):  # Dying cells break up into beads.
      dy, dx = rng.normal(0, 4, 2)
      bead = np.hypot(y - dy, x - dx) < rng.uniform(3, 6)
      cell += rng.uniform(110, 320) * bead
    blurred, glow = (ndimage.gaussian_filter(cell, s) for s in (1.8, 9))
    light[cy - half : cy + half + 1, cx - half : cx + half + 1] += (
      blurred + 0.25 * glow
    )
  return light


def _illumination(rng: np.random.Generator) -> np.ndarray:
  """Returns uneven light, 0.27 to 1, brightest at a point off centre."""
  across = np.linspace(-1, 1, SIZE)
  cy, cx = rng.uniform(-0.4, 0.4, 2)
  return np.exp(-0.33 * ((across[:, None] - cy) ** 2 + (across - cx) ** 2))


def _noise(rng: np.random.Generator, sigma: float, step: int) -> np.ndarray:
  """Returns smooth Gaussian noise of unit variance.

  It is made on a grid coarser by the factor `step`, and interpolated.
  """
  noise = ndimage.gaussian_filter(
    rng.standard_normal((SIZE // step, SIZE // step), dtype=np.float32),
    sigma / step,
    mode='wrap',
  )
  return _enlarge(noise / noise.std())


def _enlarge(coarse: np.ndarray) -> np.ndarray:
  """Interpolates a coarser grid linearly to the size of the image."""
  step = SIZE / len(coarse)
  if step == 1:
    return coarse
  return ndimage.zoom(coarse, step, order=1, grid_mode=True, mode='nearest')


def _photograph(rng: np.random.Generator, light: np.ndarray) -> np.ndarray:
  """Returns the camera's counts: shot noise, gain, read noise and offset."""
  counts = 100 + 6.0 * rng.poisson(light) + rng.normal(0, 14, light.shape)
  return np.clip(np.round(counts), 0, 65535).astype(np.uint16)


class SimulatedColonies(LabelledImages):
  """TFDS builder `simulated_colonies`: 7 train, 3 validation, 3 test images."""

  name = 'simulated_colonies'
  image_dtype = np.uint16

  @classmethod
  def listing(cls, data: DataConfig) -> Listing:
    """Lists the images to simulate.

    The simulator's source files are listed too, so that a changed simulator
    makes a new prepared copy.

    Args:
      data: Not used.
    """
    del data
    seeds = iter(range(sum(SPLITS.values())))
    return Listing(
      splits={
        split: tuple(_pair(next(seeds)) for _ in range(count))
        for split, count in SPLITS.items()
      },
      files=(pathlib.Path(__file__), pathlib.Path(colonies.__file__)),
    )


def _pair(seed: int) -> Pair:
  name = f'colony_{seed:02d}'
  return Pair(name, name, (), functools.partial(simulate_colony, seed))
