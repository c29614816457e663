"""World positions of voxels, and the voxels of a block of the world."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nnunet_cascade.geometry import Box, Grid, Vector, as_index

Field = NDArray[np.float32]
"""One value per point, most often a signed distance in mm: negative inside, 0 on the surface."""
_PARALLEL = 1e-9
_DECIMALS = 4


@dataclass(frozen=True, slots=True, kw_only=True)
class Points:
    """World positions in mm, LPS, as three arrays that broadcast to one shape.

    On a grid along the world's axes each array has one axis longer than 1, so
    that what depends on one coordinate costs one line of voxels, not a volume.

    Attributes:
        x: Grows to the patient's left.
        y: Grows to the back.
        z: Grows to the head.
    """

    x: Field
    y: Field
    z: Field


def single(values: ArrayLike) -> Field:
    """Return values in single precision."""
    return np.asarray(values, dtype=np.float32)


def points_of(positions_mm: NDArray[np.floating]) -> Points:
    """Return positions (N, 3), in the order (x, y, z), as points of shape (N,)."""
    x, y, z = single(positions_mm).T
    return Points(x=x, y=y, z=z)


def voxel_centers(grid: Grid, box: Box) -> Points:
    """Return the centres of a grid's voxels inside a box, to broadcast to the box's shape.

    Positions are rounded to 0.1 µm, so that flipped grids give the same bits.
    """
    x, y, z = (_coordinate(grid, box, world) for world in range(3))
    return Points(x=x, y=y, z=z)


def box_between(grid: Grid, low_mm: Vector, high_mm: Vector) -> Box | None:
    """Return the voxels of a grid that may lie between two world corners, or None if none does."""
    corners = np.array(list(itertools.product(*zip(low_mm, high_mm, strict=True))))
    indices = (corners - np.array(grid.origin_mm)) @ np.array(grid.axes).T / np.array(grid.spacing_mm)
    low, high = np.floor(indices.min(axis=0)), np.ceil(indices.max(axis=0)) + 1
    return Box(as_index(low), as_index(high)).intersection(Box.whole(grid.shape))


def _coordinate(grid: Grid, box: Box, world: int) -> Field:
    total = np.full((1, 1, 1), grid.origin_mm[world])
    for axis in range(3):
        step = grid.spacing_mm[axis] * grid.axes[axis][world]
        if abs(step) > _PARALLEL:
            steps = np.arange(box.start[axis], box.stop[axis]) * step
            total = total + steps.reshape([-1 if a == axis else 1 for a in range(3)])
    return np.round(total, _DECIMALS).astype(np.float32)
