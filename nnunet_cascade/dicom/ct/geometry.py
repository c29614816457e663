"""Where the slices of a CT series lie, checked before any voxel is read.

A reader that averages the distances of slices misplaces them without a word where one
is missing, doubled or tilted. Here every slice's own position decides.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal, cast

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.dicom.ct.lattice import Heights, Lattice, lattice_of, off_lattice_mm, tolerance_mm
from nnunet_cascade.dicom.slice_plane import SlicePlane
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Grid, Vector

Irregularity = Literal["missing_slices", "uneven_steps", "gantry_tilt"]
"""In what a series differs from slices at equal distances above one another."""

_SAME_PLACE_MM = 0.01
_STILL = 0.05  # of a pixel: sideways drift of slices that rounding in headers amounts to
_FEW, _FEW_SHARE = 3, 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class Stack:
    """The slices of a series in order, and the grid of the volume they make.

    Attributes:
        grid: Of the volume. Its planes lie at equal distances; its first plane is at height 0.
        order: Which of the given slices, by ascending height.
        heights_mm: (N,), of the slices in `order`.
        shifts_voxels: (N, 2), where on the grid (row, column) the first pixel of each slice
            in `order` lies; all zero unless the gantry was tilted.
        duplicates: Pairs of given slices at one place: the one left out and the one in `order`.
            Whether they show the same is the reader's to check.
        set_aside: Given slices that are not parallel to the others.
        irregularities: Empty where the slices are the planes of the grid.
        deviation_mm: Farthest that a slice taken for a plane of the grid lies from it.
    """

    grid: Grid
    order: tuple[int, ...]
    heights_mm: Heights
    shifts_voxels: NDArray[np.float64]
    duplicates: tuple[tuple[int, int], ...] = ()
    set_aside: tuple[int, ...] = ()
    irregularities: tuple[Irregularity, ...] = ()
    deviation_mm: float = 0.0

    @property
    def step_mm(self) -> float:
        """Distance of the grid's planes."""
        return self.grid.spacing_mm[0]

    def slice_at(self, height_mm: float) -> int | None:
        """Return the slice, by its place in `order`, that lies at a height, or None."""
        nearest = int(np.argmin(np.abs(self.heights_mm - height_mm)))
        is_there = abs(float(self.heights_mm[nearest]) - height_mm) <= tolerance_mm(self.step_mm)
        return nearest if is_there else None

    @property
    def sources(self) -> tuple[int | None, ...]:
        """For each plane of the grid the slice (by its place in `order`) that lies there, or None."""
        if not self.irregularities or self.irregularities == ("gantry_tilt",):
            return tuple(range(len(self.order)))
        return tuple(self.slice_at(plane * self.step_mm) for plane in range(self.grid.shape[0]))

    @property
    def interpolated(self) -> tuple[int, ...]:
        """Planes of the grid at which there is no slice."""
        return tuple(plane for plane, source in enumerate(self.sources) if source is None)

    @property
    def unused(self) -> tuple[int, ...]:
        """Slices (by their place in `order`) that lie between the planes of the grid."""
        used = set(self.sources)
        return tuple(place for place in range(len(self.order)) if place not in used)

    @property
    def drawable_mm(self) -> Heights:
        """Heights at which contours may lie, ascending: of every slice and of every interpolated plane.

        Of two slices that share a plane of the grid only the one in use counts.
        """
        between = np.array([plane * self.step_mm for plane in self.interpolated], dtype=np.float64)
        off_mm = np.abs(off_lattice_mm(self.heights_mm, self.step_mm))
        second = [place for place in self.unused if off_mm[place] <= tolerance_mm(self.step_mm)]
        return np.sort(np.concatenate([np.delete(self.heights_mm, second), between]))

    def coordinates(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return world positions as (height in mm, row, column) on the grid.

        Args:
            points_mm: (N, 3), world positions (x, y, z).

        Returns:
            (N, 3). Rows and columns are fractional voxel indices of the grid.
        """
        scale = np.array([1.0, *self.grid.spacing_mm[1:]])
        return (points_mm - np.array(self.grid.origin_mm)) @ np.array(self.grid.axes).T / scale


def stack_slices(planes: Sequence[SlicePlane]) -> Stack:
    """Put slices in order and find the grid of their volume.

    The grid has the slices' own pixels. Its distance of planes is that of the slices
    where all are within 5 % of a step, or 0.1 mm, of equal distances; else the one that most
    neighbours have, or a smaller one if then fewer planes lack a slice and fewer slices a plane.
    Slices that drift sideways (gantry tilt) get a grid wide enough for all. The order in
    which slices are given does not matter.

    Raises:
        DicomError: There are fewer than two slices, they contradict each other, or
            no distance prevails.
    """
    kept, set_aside = _parallel(planes)
    first = _lowest([planes[place] for place in kept])
    positions = np.array([planes[place].position_mm for place in kept]) - np.array(first.position_mm)
    heights = positions @ np.array(first.normal)
    order, duplicates = _ordered(kept, heights)
    if len(order) < 2:
        raise DicomError(f"found slices at {len(order)} place(s); expected at least two of one orientation")
    by_place = dict(zip(kept, range(len(kept)), strict=True))
    rows = [by_place[place] for place in order]
    ascending, sideways = heights[rows], _sideways_voxels(positions[rows], first)
    lattice = lattice_of(ascending)
    shifts, corner, shape = _widened(sideways, first.shape)
    grid = _grid(first, lattice, corner_voxels=corner, shape=shape)
    return _described(
        Stack(
            grid=grid,
            order=order,
            heights_mm=ascending - lattice.base_mm,
            shifts_voxels=shifts,
            duplicates=duplicates,
            set_aside=set_aside,
        )
    )


def _parallel(planes: Sequence[SlicePlane]) -> tuple[list[int], tuple[int, ...]]:
    """Split slices into the largest group of parallel ones, in the order given, and the others."""
    groups: list[list[int]] = []
    for place, plane in enumerate(planes):
        group = next((g for g in groups if planes[g[0]].is_parallel_to(plane)), None)
        if group is None:
            groups.append([place])
        else:
            group.append(place)
    if not groups:
        raise DicomError("found no slice; expected at least two")
    main = max(groups, key=len)
    others = tuple(place for group in groups if group is not main for place in group)
    if len(others) > max(_FEW, _FEW_SHARE * len(planes)) or len(others) >= len(main):
        sizes = sorted((len(group) for group in groups), reverse=True)
        raise DicomError(
            f"found slices of {len(groups)} orientations or pixel sizes in one series ({sizes} slices); expected one"
        )
    return main, others


def _lowest(planes: Sequence[SlicePlane]) -> SlicePlane:
    """Return the first slice along the normal, from which the grid is counted."""
    return planes[int(np.argmin(np.array([plane.position_mm for plane in planes]) @ np.array(planes[0].normal)))]


def _ordered(kept: Sequence[int], heights: Heights) -> tuple[tuple[int, ...], tuple[tuple[int, int], ...]]:
    """Sort slices by height; of those at one height the first given stays."""
    order: list[int] = []
    duplicates: list[tuple[int, int]] = []
    last = -np.inf
    for place in np.argsort(heights, kind="stable"):
        if heights[place] - last < _SAME_PLACE_MM:
            duplicates.append((kept[place], order[-1]))
        else:
            order.append(kept[place])
            last = float(heights[place])
    return tuple(order), tuple(duplicates)


def _sideways_voxels(positions_mm: NDArray[np.float64], plane: SlicePlane) -> NDArray[np.float64]:
    """Return how far each slice's first pixel lies from that of `plane`, in pixels along (row, column)."""
    within = positions_mm @ np.array([plane.down, plane.right]).T / np.array(plane.spacing_mm)
    return np.zeros_like(within) if float(np.abs(within).max()) <= _STILL else within


def _widened(
    sideways: NDArray[np.float64], shape: tuple[int, int]
) -> tuple[NDArray[np.float64], NDArray[np.float64], tuple[int, int]]:
    """Return slices' places on a grid wide enough for all, its corner in voxels from the first slice's, its shape."""
    low = np.floor(sideways.min(axis=0) + 1e-9)
    more = np.ceil(sideways.max(axis=0) - 1e-9) - low
    return sideways - low, low, (shape[0] + int(more[0]), shape[1] + int(more[1]))


def _grid(first: SlicePlane, lattice: Lattice, *, corner_voxels: NDArray[np.float64], shape: tuple[int, int]) -> Grid:
    corner_mm = corner_voxels * np.array(first.spacing_mm)
    origin = np.array(first.position_mm) + corner_mm @ np.array([first.down, first.right])
    origin = origin + lattice.base_mm * np.array(first.normal)
    return Grid(
        shape=(lattice.planes, *shape),
        spacing_mm=(lattice.step_mm, *first.spacing_mm),
        origin_mm=cast(Vector, tuple(float(value) for value in origin)),
        axes=(first.normal, first.down, first.right),
    )


def _described(stack: Stack) -> Stack:
    found: list[Irregularity] = []
    off = np.abs(off_lattice_mm(stack.heights_mm, stack.step_mm))
    on_it = off <= tolerance_mm(stack.step_mm)
    if not on_it.all() or np.diff(np.rint(stack.heights_mm / stack.step_mm)).min() < 1:
        found.append("uneven_steps")
    elif stack.grid.shape[0] != len(stack.order):
        found.append("missing_slices")
    if stack.shifts_voxels.any():
        found.append("gantry_tilt")
    return replace(stack, irregularities=tuple(found), deviation_mm=float(off[on_it].max(initial=0.0)))
