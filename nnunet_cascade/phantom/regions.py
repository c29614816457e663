"""Solids in the world, as signed distances: what a phantom is made of."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.geometry import Vector
from nnunet_cascade.phantom.points import Field, Points, single

_TINY = np.float32(1e-6)


@dataclass(frozen=True, slots=True, kw_only=True)
class TissueRegion:
    """A solid and a block of the world that holds all of it.

    Attributes:
        low_mm: Least world coordinates (x, y, z) of the block.
        high_mm: Largest world coordinates of the block.
        distance_mm: Gives the signed distance to the surface, negative inside:
            right in sign, and to first order in size near the surface.
    """

    low_mm: Vector
    high_mm: Vector
    distance_mm: Callable[[Points], Field]

    def grown(self, by_mm: float) -> TissueRegion:
        """Return the solid with its surface moved outwards, or inwards by a negative amount."""
        out = max(by_mm, 0.0)
        return TissueRegion(
            low_mm=as_vector(np.array(self.low_mm) - out),
            high_mm=as_vector(np.array(self.high_mm) + out),
            distance_mm=lambda points: self.distance_mm(points) - np.float32(by_mm),
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Tube:
    """A straight tube with round ends whose radius changes evenly along it.

    Attributes:
        start_mm: World position of the centre of one end.
        stop_mm: World position of the centre of the other.
        start_radius_mm: Radius there.
        stop_radius_mm: Radius there.
    """

    start_mm: Vector
    stop_mm: Vector
    start_radius_mm: float
    stop_radius_mm: float

    def region(self) -> TissueRegion:
        """Return the tube as a solid."""
        reach = max(self.start_radius_mm, self.stop_radius_mm)
        ends = np.array([self.start_mm, self.stop_mm])
        low, high = ends.min(axis=0) - reach, ends.max(axis=0) + reach
        return TissueRegion(low_mm=as_vector(low), high_mm=as_vector(high), distance_mm=self.distance_mm)

    def distance_mm(self, points: Points) -> Field:
        """Return the signed distance to the tube's surface."""
        start, along = single(self.start_mm), single(self.stop_mm) - single(self.start_mm)
        x, y, z = points.x - start[0], points.y - start[1], points.z - start[2]
        length2 = max(float(along @ along), 1e-6)
        t = np.clip((x * along[0] + y * along[1] + z * along[2]) / np.float32(length2), 0, 1)
        gap = np.sqrt((x - t * along[0]) ** 2 + (y - t * along[1]) ** 2 + (z - t * along[2]) ** 2)
        return gap - (np.float32(self.start_radius_mm) + t * np.float32(self.stop_radius_mm - self.start_radius_mm))


def path(nodes_mm: list[Vector], radius_mm: float) -> list[Tube]:
    """Return tubes of one radius through a list of positions."""
    return [
        Tube(start_mm=a, stop_mm=b, start_radius_mm=radius_mm, stop_radius_mm=radius_mm)
        for a, b in itertools.pairwise(nodes_mm)
    ]


def ellipsoid(center_mm: Vector, radii_mm: Vector, axes: NDArray[np.floating] | None = None) -> TissueRegion:
    """Return an ellipsoid.

    Args:
        center_mm: World position of its centre.
        radii_mm: Half lengths along its axes.
        axes: (3, 3), one unit vector (x, y, z) per row; the world's where None.
    """
    rows = single(np.eye(3) if axes is None else axes)
    reach = np.sqrt(((rows * np.array(radii_mm)[:, None]) ** 2).sum(axis=0))

    def distance_mm(points: Points) -> Field:
        x, y, z = (getattr(points, name) - np.float32(c) for name, c in zip("xyz", center_mm, strict=True))
        inner, slope = np.float32(0), np.float32(0)
        for row, radius in zip(rows, radii_mm, strict=True):
            part = (x * row[0] + y * row[1] + z * row[2]) / np.float32(radius)
            inner = inner + part**2
            slope = slope + (part / np.float32(radius)) ** 2
        inner = np.sqrt(inner)
        return inner * (inner - 1) / np.sqrt(np.maximum(slope, _TINY))

    center = np.array(center_mm)
    return TissueRegion(low_mm=as_vector(center - reach), high_mm=as_vector(center + reach), distance_mm=distance_mm)


def superellipsoid_mm(parts: Sequence[tuple[Field, Field | float]], power: float) -> Field:
    """Return the first-order distance to the surface where the powers of the parts sum to 1.

    Args:
        parts: Per axis, how far from the centre (0 or more, mm) and the radius.
        power: 2 is an ellipsoid, more is boxier.

    Source:
        G. Taubin, "Estimation of planar curves, surfaces, and nonplanar space
        curves", IEEE TPAMI 13 (1991), doi:10.1109/34.103273: the value of an
        implicit function over the size of its gradient.
    """
    total, slope = np.float32(0), np.float32(0)
    for offset, radius in parts:
        scale = np.asarray(radius, dtype=np.float32)
        ratio = offset / scale
        total = total + ratio ** np.float32(power)
        slope = slope + (ratio ** np.float32(power - 1) / scale) ** 2
    total = np.maximum(total, _TINY)
    distance = (total - total ** np.float32((power - 1) / power)) / np.sqrt(np.maximum(slope, _TINY**2))
    return np.maximum(distance, -np.float32(min(np.min(radius) for _, radius in parts)))


def smooth_max(first: Field, second: Field, round_mm: float) -> Field:
    """Intersect two solids given as distances, the edge between them rounded."""
    overlap = np.maximum(np.float32(round_mm) - np.abs(first - second), 0)
    return single(np.maximum(first, second) + overlap**2 / np.float32(4 * round_mm))


def as_vector(values: NDArray[np.floating]) -> Vector:
    """Return three coordinates as plain numbers."""
    x, y, z = (float(v) for v in values)
    return x, y, z
