"""Draws the label images of simulated nuclei in stem-cell colonies.

Nuclei are ovals with a wavy outline. Each is placed slightly too close to those
already there, and where two meet they press each other out of shape.
`simulated` renders the images from these labels.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

SIZE = 1024  # Pixels along each side of a simulated image.
MIN_LENGTH, MAX_LENGTH = 40, 90  # Longest diameter of a nucleus, in pixels.
MIN_NUCLEI, MAX_NUCLEI = 60, 110
MAX_GAP = 5.0  # Widest gap between nuclei pressed together, in pixels.

_WINDOW = 58  # Half the side of the window a nucleus is drawn in, in pixels.
_HARMONICS = np.arange(2, 6)  # Harmonics of an outline; 2 makes it an oval.


class Nuclei(NamedTuple):
  """Shapes of N nuclei, before their neighbours deform them.

  Attributes:
    centers: y and x in pixels, float (N, 2).
    radii: Mean radius in pixels, float (N,).
    amplitudes: Amplitude of each outline harmonic relative to the radius, float
      (N, K).
    phases: Phase of each outline harmonic in radians, float (N, K).
  """

  centers: np.ndarray
  radii: np.ndarray
  amplitudes: np.ndarray
  phases: np.ndarray


def draw_colonies(rng: np.random.Generator) -> np.ndarray:
  """Draws the labels of one field of colonies.

  Repeats until there are 60 to 110 nuclei.

  Args:
    rng: Source of all random choices.

  Returns:
    Label image, int32 (1024, 1024): 0 is background; each value from 1 to N (60
    to 110) is one connected nucleus, 40 to 90 pixels long and not cut off by
    the image's border.
  """
  while True:
    nuclei = _colonies(rng, int(rng.integers(MIN_NUCLEI + 8, MAX_NUCLEI + 1)))
    labels = _keep_whole(_press(rng, nuclei))
    if MIN_NUCLEI <= labels.max() <= MAX_NUCLEI:
      return labels


def _colonies(rng: np.random.Generator, count: int) -> Nuclei:
  """Grows colonies by placing nuclei one by one, close to those there."""
  radii = np.clip(rng.normal(27, 4.5, count), 20, 37)
  roots = int(rng.integers(3, 6))
  hearts = rng.uniform(170, SIZE - 170, (roots, 2))
  centers = np.empty((count, 2))
  for i, radius in enumerate(radii):
    heart = hearts[rng.integers(roots)]
    # Colonies are compact, except for a few stray cells.
    spread = 420 if rng.random() < 0.06 else 10 + 22 * np.sqrt(i)
    tries = heart + rng.normal(0, spread, (400, 2))
    room = np.full(len(tries), np.inf)
    if i:
      distance = np.linalg.norm(tries[:, None] - centers[:i], axis=-1)
      room = (distance / (radii[:i] + radius)).min(axis=1)
    inside = ((tries > 50) & (tries < SIZE - 50)).all(axis=1)
    fits = tries[inside & (room > 0.84)]
    if not len(fits):
      fits = tries[np.argmax(np.where(inside, room, -1))][None]
    nearest = np.argmin(np.linalg.norm(fits - heart, axis=1))
    centers[i] = fits[nearest]
  scale = np.array([0.2, 0.075, 0.045, 0.03])
  amplitudes = np.abs(rng.normal(0, scale, (count, len(scale))))
  phases = rng.uniform(0, 2 * np.pi, (count, len(scale)))
  return Nuclei(centers, radii, np.minimum(amplitudes, 2 * scale), phases)


def _press(rng: np.random.Generator, nuclei: Nuclei) -> np.ndarray:
  """Assigns each pixel to the nearest nucleus, so that nuclei press each other.

  The distance to a nucleus is measured from its outline, so neighbours meet
  along a curve; half of their gap is cut off on either side of it.
  """
  nearest, second = np.full((2, SIZE, SIZE), 1e6, np.float32)
  owner, rival = np.zeros((2, SIZE, SIZE), np.int32)
  gaps = rng.uniform(0, MAX_GAP, len(nuclei.radii) + 1).astype(np.float32)
  for i, center in enumerate(np.round(nuclei.centers).astype(int), start=1):
    y0, x0 = np.maximum(center - _WINDOW, 0)
    y1, x1 = np.minimum(center + _WINDOW + 1, SIZE)
    window = np.s_[y0:y1, x0:x1]
    y, x = np.ogrid[
      y0 - center[0] : y1 - center[0], x0 - center[1] : x1 - center[1]
    ]
    distance = _outline_distance(y, x, nuclei, i - 1)
    wins = distance < nearest[window]
    places = ~wins & (distance < second[window])
    second[window] = np.where(wins, nearest[window], second[window])
    rival[window] = np.where(wins, owner[window], rival[window])
    nearest[window][wins], owner[window][wins] = distance[wins], i
    second[window][places], rival[window][places] = distance[places], i
  gap = (gaps[owner] + gaps[rival]) / 2
  return np.where((nearest < 0) & (second - nearest > gap), owner, 0)


def _outline_distance(
  y: np.ndarray, x: np.ndarray, nuclei: Nuclei, i: int
) -> np.ndarray:
  """Returns the radial distance to a nucleus's outline in px, < 0 inside."""
  angle = np.arctan2(y, x)[..., None]
  waves = np.cos(_HARMONICS * angle + nuclei.phases[i])
  outline = nuclei.radii[i] * (1 + waves @ nuclei.amplitudes[i])
  return (np.hypot(y, x) - outline).astype(np.float32)


def _keep_whole(labels: np.ndarray) -> np.ndarray:
  """Keeps the largest piece of each nucleus, and renumbers the nuclei.

  Nuclei that touch the image's border or are not 40 to 90 pixels long are
  dropped.
  """
  kept = np.zeros_like(labels)
  for value, box in enumerate(ndimage.find_objects(labels), start=1):
    if box is None:
      continue
    pieces, _ = ndimage.label(labels[box] == value)
    nucleus = pieces == np.argmax(np.bincount(pieces.ravel())[1:]) + 1
    inside = all(side.start > 0 and side.stop < SIZE for side in box)
    if inside and MIN_LENGTH <= _length(nucleus) <= MAX_LENGTH:
      kept[box][nucleus] = kept.max() + 1
  return kept


def _length(mask: np.ndarray) -> float:
  """Returns the longest diameter of a mask, in pixels."""
  angles = np.linspace(0, np.pi, 36, endpoint=False)
  across = np.argwhere(mask) @ np.array([np.sin(angles), np.cos(angles)])
  return np.ptp(across, axis=0).max() + 1
