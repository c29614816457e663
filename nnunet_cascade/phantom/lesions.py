"""Tumours and what looks like them: one way to draw both, so that only the place tells them apart."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.geometry import Vector
from nnunet_cascade.phantom.points import Field, Points, single
from nnunet_cascade.phantom.regions import TissueRegion, as_vector

_DIRECTIONS = 4000
_SURFACE_SAMPLES = 300
_WALL_MM = 4.5


@dataclass(frozen=True, slots=True, kw_only=True)
class PhantomLesion:
    """A star-shaped body: from its centre its surface is seen once in every direction.

    Attributes:
        center_mm: World position of its centre.
        radius_mm: Radius of the sphere of the same volume.
        frame: (3, 3), the world (x, y, z) turned and stretched to where the surface
            is described; of determinant 1, so that volumes stay.
        scale_mm: Distance of the surface where there is no bump.
        bumps: (N, 3), unit vectors of the bumps.
        heights: (N,), their heights as parts of `scale_mm`.
        sharpness: (N,), 4 is a lobe, 60 a spicule.
        hu: Mean of its tissue.
        hollow: It is a wall about gas, like bowel.
    """

    center_mm: Vector
    radius_mm: float
    frame: NDArray[np.float32]
    scale_mm: float
    bumps: NDArray[np.float32]
    heights: NDArray[np.float32]
    sharpness: NDArray[np.float32]
    hu: float
    hollow: bool = False

    @property
    def volume_mm3(self) -> float:
        """Its volume, of the continuous shape."""
        return 4 / 3 * math.pi * self.radius_mm**3

    @property
    def reach_mm(self) -> float:
        """Farthest distance of its surface from its centre."""
        return 1.05 * float(np.linalg.norm(self.surface_mm() - self.center_mm, axis=1).max())

    def surface_mm(self) -> NDArray[np.float64]:
        """Return points spread over its surface, (N, 3) in the order (x, y, z)."""
        directions = np.vstack([sphere_directions(_SURFACE_SAMPLES), self.bumps])
        out = directions * (self.scale_mm * profile(directions, self.bumps, self.heights, self.sharpness))[:, None]
        return out @ np.linalg.inv(self.frame).T + self.center_mm

    def region(self) -> TissueRegion:
        """Return it as a solid."""
        center, reach = np.array(self.center_mm), self.reach_mm
        low, high = as_vector(center - reach), as_vector(center + reach)
        return TissueRegion(low_mm=low, high_mm=high, distance_mm=self.distance_mm)

    def gas(self) -> TissueRegion:
        """Return the gas inside a hollow one, as a solid."""
        return self.region().grown(-min(_WALL_MM, 0.5 * self.radius_mm))

    def distance_mm(self, points: Points) -> Field:
        """Return the distance to the surface along the ray from the centre, less where it is squeezed."""
        x, y, z = (getattr(points, name) - np.float32(c) for name, c in zip("xyz", self.center_mm, strict=True))
        turned = np.stack(np.broadcast_arrays(*(x * row[0] + y * row[1] + z * row[2] for row in self.frame)), axis=-1)
        length = np.sqrt((turned**2).sum(axis=-1))
        directions = turned / np.maximum(length, np.float32(1e-6))[..., None]
        surface = np.float32(self.scale_mm) * profile(directions, self.bumps, self.heights, self.sharpness)
        return (length - surface) / np.float32(np.linalg.norm(self.frame, 2))


def profile(
    directions: NDArray[np.floating],
    bumps: NDArray[np.float32],
    heights: NDArray[np.float32],
    sharpness: NDArray[np.float32],
) -> Field:
    """Return how far the surface lies in each direction (..., 3), 1 where there is no bump."""
    total = np.ones(directions.shape[:-1], dtype=np.float32)
    for bump, height, sharp in zip(bumps, heights, sharpness, strict=True):
        near = directions[..., 0] * bump[0] + directions[..., 1] * bump[1] + directions[..., 2] * bump[2]
        total += height * np.exp(sharp * (near.astype(np.float32) - 1))
    return total


def draw_lesion(
    rng: np.random.Generator, center_mm: Vector, radius_mm: float, *, flat: bool = False, hollow: bool = False
) -> PhantomLesion:
    """Draw a lesion of a given volume: lobulated, in about two of five cases spiculated too.

    Args:
        rng: Draws shape and Hounsfield units.
        center_mm: World position of its centre.
        radius_mm: Radius of the sphere of its volume.
        flat: Draw a plate, as of collapsed lung.
        hollow: Draw a wall about gas.
    """
    lobes = int(rng.integers(4, 9))
    spicules = int(rng.integers(8, 15)) if not (flat or hollow) and rng.random() < 0.4 else 0
    ways = rng.normal(size=(lobes + spicules, 3))
    bumps = single(ways / np.linalg.norm(ways, axis=1, keepdims=True))
    heights = single(np.concatenate([rng.uniform(0.1, 0.35, lobes), rng.uniform(0.25, 0.5, spicules)]))
    sharpness = single(np.concatenate([rng.uniform(4, 9, lobes), rng.uniform(30, 60, spicules)]))
    cubes = profile(sphere_directions(_DIRECTIONS), bumps, heights, sharpness).astype(np.float64) ** 3
    return PhantomLesion(
        center_mm=center_mm,
        radius_mm=radius_mm,
        frame=_frame(rng, flat=flat),
        scale_mm=radius_mm / float(cubes.mean()) ** (1 / 3),
        bumps=bumps,
        heights=heights,
        sharpness=sharpness,
        hu=rng.uniform(20, 60),
        hollow=hollow,
    )


def sphere_directions(count: int) -> NDArray[np.float64]:
    """Spread unit vectors evenly over the sphere, (count, 3).

    Source:
        Á. González, "Measurement of areas on a sphere using Fibonacci and
        latitude–longitude lattices", Math. Geosci. 42 (2010),
        doi:10.1007/s11004-009-9257-x.
    """
    index = np.arange(count) + 0.5
    height, angle = 1 - 2 * index / count, index * math.pi * (1 + math.sqrt(5))
    ring = np.sqrt(1 - height**2)
    return np.stack([ring * np.cos(angle), ring * np.sin(angle), height], axis=1)


def _frame(rng: np.random.Generator, *, flat: bool) -> NDArray[np.float32]:
    turn, _ = np.linalg.qr(rng.normal(size=(3, 3)))
    stretch = np.array([0.72, 0.8, 1.9]) if flat else rng.uniform(0.85, 1.18, size=3)
    stretch /= np.prod(stretch) ** (1 / 3)
    return single(stretch[:, None] * turn)
