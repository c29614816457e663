"""The diameters of a lesion as RECIST 1.1 measures them on a CT: the longest one within an axial slice."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import ConvexHull

from nnunet_cascade.geometry import Box, Grid, Mask, Vector

_Points = NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class AxialDiameters:
    """The diameters of a lesion.

    Attributes:
        long_axis_mm: Longest diameter within an axial slice.
        short_axis_mm: Extent at right angles to it in the same slice.
        axis: The array axis along which axial slices lie above one another: 0 is Z, 1 is Y, 2 is X.
        plane: Index of the slice along it; the lowest of several.
        ends_mm: World positions (x, y, z) of both ends of the long axis.
    """

    long_axis_mm: float
    short_axis_mm: float
    axis: int
    plane: int
    ends_mm: tuple[Vector, Vector]


@dataclass(frozen=True, slots=True)
class _Axis:
    """The long axis of one slice: its length and ends, and the hull it lies in; positions in mm within the slice."""

    length_mm: float
    ends: _Points
    hull: _Points


def axial_diameters(mask: Mask, grid: Grid) -> AxialDiameters | None:
    """Measure the longest diameter of a lesion within an axial slice, and the extent at right angles to it.

    Slices are axial in the patient, by the grid's direction, however the array lies; on an oblique
    grid the array planes nearest to axial are measured as they are. The diameter is that of the
    convex hull of the lesion's outline in a slice, which may cross what is not lesion. The outline runs half-way
    between the centers of voxels inside and outside, as contours do: a row of n voxels is n voxels long.

    A disc of diameter d on pixels of a × b measures at most d + max(a, b), and more than
    √(d² − b²) − a and √(d² − a²) − b: the outline reaches at most half a pixel beyond centers inside the
    disc, and a chord of length c along a row holds more than c/a − 1 centers.

    Args:
        mask: (Z, Y, X), one lesion.
        grid: Of the same shape.

    Returns:
        None if the mask is empty.

    Source:
        E. A. Eisenhauer et al., "New response evaluation criteria in solid tumours: revised RECIST guideline
        (version 1.1)", European Journal of Cancer 45, 2009, 228–247, doi:10.1016/j.ejca.2008.10.026.
    """
    if not mask.any():
        return None
    box = Box.around(mask)
    axis, _ = grid.array_axis("foot-head")
    down, right = (other for other in range(3) if other != axis)
    slices = np.moveaxis(mask[box.slices], axis, 0)
    spacing_mm = grid.spacing_mm[down], grid.spacing_mm[right]
    measured = {plane: _long_axis(pixels, spacing_mm) for plane, pixels in enumerate(slices) if pixels.any()}
    best = max(measured, key=lambda plane: (round(measured[plane].length_mm, 9), -plane))
    plane = box.start[axis] + best
    first, second = (_world(end, plane, box, grid, axis) for end in measured[best].ends)
    return AxialDiameters(
        long_axis_mm=measured[best].length_mm,
        short_axis_mm=_across(measured[best]),
        axis=axis,
        plane=plane,
        ends_mm=(first, second),
    )


def _long_axis(pixels: NDArray[np.bool_], spacing_mm: tuple[float, float]) -> _Axis:
    """Find the two points of a slice's outline that lie farthest apart."""
    points = _outline(pixels) * np.array(spacing_mm)
    hull = points[ConvexHull(points).vertices]
    distances = np.linalg.norm(hull[:, None] - hull[None], axis=-1)
    one, other = np.unravel_index(int(np.argmax(distances)), distances.shape)
    return _Axis(float(distances[one, other]), hull[[one, other]], hull)


def _outline(pixels: NDArray[np.bool_]) -> _Points:
    """Return the points half a pixel beyond the first and last pixel of each row and column (N, 2), in pixels."""
    ends: list[_Points] = []
    for axis in (1, 0):
        lines = np.flatnonzero(pixels.any(axis=axis))
        held = pixels[lines] if axis == 1 else pixels[:, lines].T
        first, last = held.argmax(axis=1), held.shape[1] - 1 - held[:, ::-1].argmax(axis=1)
        for places in (first - 0.5, last + 0.5):
            pair = (lines, places) if axis == 1 else (places, lines)
            ends.append(np.column_stack(pair).astype(np.float64))
    return np.concatenate(ends)


def _across(axis: _Axis) -> float:
    """Return the extent of the hull at right angles to the long axis."""
    along = (axis.ends[1] - axis.ends[0]) / axis.length_mm
    heights = axis.hull @ np.array([-along[1], along[0]])
    return float(np.ptp(heights))


def _world(point: _Points, plane: int, box: Box, grid: Grid, axis: int) -> Vector:
    """Return the world position of a point in mm within a slice of a box."""
    down, right = (other for other in range(3) if other != axis)
    index = [0.0, 0.0, 0.0]
    index[axis] = float(plane)
    for other, value in zip((down, right), point.tolist(), strict=True):
        index[other] = value / grid.spacing_mm[other] + box.start[other]
    return grid.world_mm((index[0], index[1], index[2]))
