"""Contours to a mask on the CT's grid, matched by position."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.dicom.ct.geometry import Stack
from nnunet_cascade.dicom.ct.resampling import PlaneMask, mask_on_grid
from nnunet_cascade.dicom.rtstruct.polygons import Polygon, fill, without_twins
from nnunet_cascade.dicom.rtstruct.reading import Contour
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Mask

_PLANAR_SHARE = 0.5  # of a step: how far a contour may leave the plane it was drawn on
_ONE_HEIGHT_SHARE = 0.15  # of a step: how far apart contours of one plane may lie


@dataclass(frozen=True, slots=True, kw_only=True)
class RoiRaster:
    """A region of interest on the grid of a CT.

    Attributes:
        mask: (Z, Y, X).
        contours: How many were drawn.
        twins: How many of them stood there before, and were left out.
        slivers: How many cover no voxel centre.
        outside: How many lie wholly outside the CT.
        clipped: How many reach beyond the pixels of their slice.
        between: How many were left out because others lie nearer to the same slice.
        skipped_slices: Slices without a contour between slices with one.
    """

    mask: Mask
    contours: int
    twins: int
    slivers: int
    outside: int
    clipped: int
    between: int
    skipped_slices: int


@dataclass(frozen=True, slots=True)
class _PlacedContours:
    """A contour on its plane, and how far above it."""

    plane: int
    above_mm: float
    polygon: Polygon


def rasterize(contours: Sequence[Contour], stack: Stack) -> RoiRaster:
    """Draw the contours of a region on the grid of a CT.

    Each contour belongs to the slice nearest along the normal, at most half a step
    away; where the series lacks slices, also to an interpolated plane. SOP UIDs play no
    part. Where contours lie closer than slices, each slice gets those nearest to it. On a
    plane, contours that repeat another are left out, then even–odd parity at voxel centres
    counts.

    Args:
        contours: (N, 3) each, world positions (x, y, z) in mm. None gives an empty mask.
        stack: Slices and grid of the CT.

    Raises:
        DicomError: A contour is not parallel to the slices.

    Source:
        docs/decisions/0024-contours-to-voxels.md.
    """
    heights, shape = stack.drawable_mm, stack.grid.shape[1:]
    placed = [_place(contour, stack, heights) for contour in contours]
    inside = [item for item in placed if item is not None and _meets(item.polygon, shape)]
    by_plane: dict[int, list[_PlacedContours]] = defaultdict(list)
    for item in inside:
        by_plane[item.plane].append(item)
    drawn: dict[int, PlaneMask] = {}
    twins = slivers = between = 0
    for plane, items in by_plane.items():
        polygons = _nearest(items, stack.step_mm)
        between += len(items) - len(polygons)
        kept = [polygons[place] for place in without_twins(polygons)]
        twins += len(polygons) - len(kept)
        slivers += sum(not fill([_near_origin(polygon)], _extent(polygon)).any() for polygon in kept)
        drawn[plane] = _filled(kept, shape)
    return RoiRaster(
        mask=mask_on_grid(drawn, stack),
        contours=len(contours),
        twins=twins,
        slivers=slivers,
        outside=len(contours) - len(inside),
        clipped=sum(_is_clipped(item.polygon, shape) for item in inside),
        between=between,
        skipped_slices=_skipped(drawn, stack),
    )


def _place(contour: Contour, stack: Stack, heights: NDArray[np.float64]) -> _PlacedContours | None:
    """Find the plane a contour was drawn on; None if it lies above or below the CT."""
    points = stack.coordinates(contour)
    above = points[:, 0]
    span_mm = float(np.ptp(above))
    if span_mm > _PLANAR_SHARE * stack.step_mm:
        raise DicomError(f"a contour spans {span_mm:.1f} mm across the slices; expected contours drawn on them")
    height = float(above.mean())
    plane = int(np.argmin(np.abs(heights - height)))
    if abs(float(heights[plane]) - height) > stack.step_mm / 2 * (1 + 1e-6):
        return None
    return _PlacedContours(plane, height - float(heights[plane]), points[:, 1:])


def _nearest(items: Sequence[_PlacedContours], step_mm: float) -> list[Polygon]:
    """Return the contours drawn at one height, that nearest to the plane: the parity of two heights means nothing."""
    nearest = min(items, key=lambda item: abs(item.above_mm)).above_mm
    return [item.polygon for item in items if abs(item.above_mm - nearest) <= _ONE_HEIGHT_SHARE * step_mm]


def _meets(polygon: Polygon, shape: tuple[int, int]) -> bool:
    low, high = polygon.min(axis=0), polygon.max(axis=0)
    return bool((high > -0.5).all() and (low < np.array(shape) - 0.5).all())


def _is_clipped(polygon: Polygon, shape: tuple[int, int]) -> bool:
    return bool(polygon.min() < -0.5 or (polygon.max(axis=0) > np.array(shape) - 0.5).any())


def _near_origin(polygon: Polygon) -> Polygon:
    return polygon - np.floor(polygon.min(axis=0))


def _extent(polygon: Polygon) -> tuple[int, int]:
    rows, columns = np.ceil(np.ptp(polygon, axis=0)).astype(int) + 2
    return int(rows), int(columns)


def _filled(polygons: Sequence[Polygon], shape: tuple[int, int]) -> PlaneMask:
    """Fill within the box of the polygons alone: a tumor covers a hundredth of its slice."""
    vertices = np.concatenate(polygons)
    low = np.clip(np.floor(vertices.min(axis=0)), 0, np.array(shape) - 1).astype(int)
    high = np.clip(np.ceil(vertices.max(axis=0)) + 1, low + 1, shape).astype(int)
    mask = np.zeros(shape, dtype=np.bool_)
    rows, columns = (high - low).tolist()
    mask[low[0] : high[0], low[1] : high[1]] = fill([polygon - low for polygon in polygons], (rows, columns))
    return mask


def _skipped(drawn: dict[int, PlaneMask], stack: Stack) -> int:
    """Count the slices between drawn ones on which nothing is drawn; planes that hold no slice do not count."""
    shown = [plane for plane, mask in drawn.items() if mask.any()]
    between = range(min(shown), max(shown)) if shown else ()
    heights = stack.drawable_mm
    return sum(plane not in shown and stack.slice_at(float(heights[plane])) is not None for plane in between)
