"""Shapes whose volume and outlines are known by formula, and slices to draw them on."""

from dataclasses import dataclass

import numpy as np
from builders.oriented_grids import grid_towards
from scipy.spatial.transform import Rotation

from nnunet_cascade.dicom.slice_plane import SlicePlane
from nnunet_cascade.geometry import Grid

VERTICES = 720  # the polygon's area is 1.3e-5 smaller than the ellipse's


@dataclass(frozen=True)
class Ellipsoid:
    """All points p with |R (p - centre) / radii| <= 1."""

    center_mm: tuple
    radii_mm: tuple
    turned: tuple = (0.0, 0.0, 0.0)

    @property
    def volume_mm3(self):
        return 4 / 3 * np.pi * np.prod(self.radii_mm)

    @property
    def to_unit_sphere(self):
        return Rotation.from_euler("zyx", self.turned, degrees=True).as_matrix() / np.array(self.radii_mm)[:, None]

    def contains(self, points_mm):
        return (((points_mm - np.array(self.center_mm)) @ self.to_unit_sphere.T) ** 2).sum(axis=-1) <= 1

    def outline_mm(self, corner_mm, right, down):
        """The outline (N, 3) on a plane, or None where the plane misses it.

        On the plane p = corner + u right + v down the unit sphere's |M (p - centre)|² <= 1 is the ellipse
        |K (q - q0)|² <= rest, q = (u, v), K = M [right down].
        """
        matrix = self.to_unit_sphere
        within = matrix @ np.column_stack([right, down])
        away = matrix @ (np.array(corner_mm) - np.array(self.center_mm))
        middle, *_ = np.linalg.lstsq(within, -away, rcond=None)
        rest = 1 - float(((away + within @ middle) ** 2).sum())
        if rest <= 0:
            return None
        angles = np.linspace(0, 2 * np.pi, VERTICES, endpoint=False)
        circle = np.sqrt(rest) * np.column_stack([np.cos(angles), np.sin(angles)])
        ellipse = middle + circle @ np.linalg.inv(np.linalg.cholesky(within.T @ within))
        return np.array(corner_mm) + ellipse @ np.array([right, down])


@dataclass(frozen=True)
class Shape:
    """Ellipsoids, each within the one before: solid, hole, island in the hole."""

    ellipsoids: tuple
    in_one_contour: bool = False

    @property
    def volume_mm3(self):
        return sum((-1) ** depth * ellipsoid.volume_mm3 for depth, ellipsoid in enumerate(self.ellipsoids))

    def contains(self, points_mm):
        return np.logical_xor.reduce([ellipsoid.contains(points_mm) for ellipsoid in self.ellipsoids])

    def contours_mm(self, plane):
        """The closed contours on a slice."""
        found = [e.outline_mm(plane.position_mm, plane.right, plane.down) for e in self.ellipsoids]
        outlines = [outline for outline in found if outline is not None]
        return [keyhole(*outlines)] if self.in_one_contour and len(outlines) == 2 else outlines

    def voxels(self, grid):
        """The voxels of a grid whose centres lie inside."""
        steps = np.array(grid.axes) * np.array(grid.spacing_mm)[:, None]
        return self.contains(np.array(grid.origin_mm) + np.moveaxis(np.indices(grid.shape), 0, -1) @ steps)

    def moved(self, by_mm):
        centers = (tuple(np.array(ellipsoid.center_mm) + by_mm) for ellipsoid in self.ellipsoids)
        parts = zip(self.ellipsoids, centers, strict=True)
        return Shape(tuple(Ellipsoid(c, e.radii_mm, e.turned) for e, c in parts), self.in_one_contour)


def keyhole(outer, inner):
    """Outer outline and hole as one contour, through a channel of no width."""
    return np.concatenate([outer, outer[:1], inner, inner[:1]])


def sphere(radius_mm, center_mm=(0.0, 0.0, 0.0)):
    return Ellipsoid(tuple(center_mm), (radius_mm,) * 3)


def _of_volume(ml, ratios, turned=(0.0, 0.0, 0.0)):
    scale = (1000 * ml / (4 / 3 * np.pi * np.prod(ratios))) ** (1 / 3)
    return Ellipsoid((0.0, 0.0, 0.0), tuple(scale * ratio for ratio in ratios), turned)


_SHELL = (sphere(34.0), sphere(19.0, (4.0, -2.5, 3.0)))
SHAPES = {
    "69 ml ellipsoid": Shape((_of_volume(69, (1.0, 1.3, 1.6), (30, 20, 50)),)),
    "shell with a hole": Shape(_SHELL),
    "nested island": Shape((*_SHELL, sphere(11.0, (7.0, -4.0, 4.0)))),
    "keyhole": Shape(_SHELL, in_one_contour=True),
}
SMALL_SPHERE = Shape((_of_volume(0.5, (1.0, 1.0, 1.0)),))

SPACING_MM = (3.0, 0.977, 0.977)
SIZE_MM = 80.0


def _oblique(shape, spacing_mm):
    right, down, normal = Rotation.from_euler("zyx", (25, -40, 15), degrees=True).as_matrix()
    axes = tuple(tuple(float(v) for v in axis) for axis in (normal, down, right))
    return Grid(shape=shape, spacing_mm=spacing_mm, origin_mm=(11.0, -13.0, 17.0), axes=axes)


SERIES = {
    "axial": lambda shape, spacing_mm: grid_towards("LPS", shape, spacing_mm),
    "prone": lambda shape, spacing_mm: grid_towards("RAS", shape, spacing_mm),
    "feet first": lambda shape, spacing_mm: grid_towards("RPI", shape, spacing_mm),
    "oblique": _oblique,
}


def series_grid(name, spacing_mm=SPACING_MM, size_mm=SIZE_MM):
    """The grid of a series that holds the shapes, once they are `centered` on it."""
    return SERIES[name](tuple(int(np.ceil(size_mm / size)) for size in spacing_mm), spacing_mm)


def centered(shape, grid):
    """A shape moved to the midst of a grid, off its voxels' centres and borders."""
    return shape.moved(grid.world_mm(tuple((np.array(grid.shape) - 1) / 2 + (0.21, 0.37, 0.11))))


def packed_planes(grid, *, tilt=(0.0, 0.0)):
    """The slices of a grid, each moved by `tilt` (down, right) in mm against the one before."""
    drift = np.array(tilt) @ np.array(grid.axes[1:])
    return [
        SlicePlane(
            position_mm=tuple(float(v) for v in np.array(grid.world_mm((plane, 0, 0))) + plane * drift),
            down=grid.axes[1],
            right=grid.axes[2],
            spacing_mm=grid.spacing_mm[1:],
            shape=grid.shape[1:],
        )
        for plane in range(grid.shape[0])
    ]


def contours_on(shape, planes):
    """The contours of a shape on all slices."""
    return [contour for plane in planes for contour in shape.contours_mm(plane)]


def dice(one, other):
    return 2 * np.count_nonzero(one & other) / (np.count_nonzero(one) + np.count_nonzero(other))
