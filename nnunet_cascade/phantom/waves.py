"""Texture that belongs to the patient, not to the grid."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.phantom.points import Field, Points, single


@dataclass(frozen=True, slots=True)
class Waves:
    """A sum of plane waves: mean 0, standard deviation 1.

    Attributes:
        vectors: (N, 3), radians per mm along (x, y, z).
        phases: (N,), radians.
    """

    vectors: NDArray[np.float32]
    phases: NDArray[np.float32]

    def at(self, points: Points) -> Field:
        """Return the texture at each point."""
        total = np.float32(0)
        for (kx, ky, kz), phase in zip(self.vectors, self.phases, strict=True):
            total = total + np.sin(kx * points.x + ky * points.y + kz * points.z + phase)
        return single(total * np.float32(np.sqrt(2 / len(self.phases))))


def draw_waves(rng: np.random.Generator, lengths_mm: tuple[float, float], count: int = 5) -> Waves:
    """Draw waves of random directions, their lengths in mm between two bounds."""
    directions = rng.normal(size=(count, 3))
    directions /= np.linalg.norm(directions, axis=1, keepdims=True)
    lengths = rng.uniform(*lengths_mm, size=(count, 1))
    phases = rng.uniform(0, 2 * np.pi, size=count)
    return Waves(single(2 * np.pi * directions / lengths), single(phases))
