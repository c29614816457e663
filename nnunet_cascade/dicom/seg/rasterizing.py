"""Segments of a DICOM SEG to a mask on the CT's grid, frame by frame: every frame's own position decides."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.dicom.ct.geometry import Stack
from nnunet_cascade.dicom.ct.resampling import PlaneMask, mask_on_grid
from nnunet_cascade.dicom.seg.frames import frames_of
from nnunet_cascade.dicom.seg.reading import SegmentationFile
from nnunet_cascade.dicom.slice_plane import SlicePlane
from nnunet_cascade.errors import DicomError
from nnunet_cascade.geometry import Mask

_OFF_VOXELS = 0.1  # how far pixels may lie from voxels: what rounding in headers amounts to
_OFF_STEP = 0.01  # of a voxel: how far the distance of pixels may differ from that of voxels
_ONE_PLANE_SHARE = 0.25  # of a step: how far apart frames that belong to one plane may lie


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentRaster:
    """A segment on the grid of a CT.

    Attributes:
        mask: (Z, Y, X).
        outside_voxels: Set pixels that lie outside the CT.
        skipped_slices: Slices without a set pixel between slices with one.
    """

    mask: Mask
    outside_voxels: int
    skipped_slices: int


def segment_on_stack(file: SegmentationFile, number: int, stack: Stack) -> SegmentRaster:
    """Draw a segment on the grid of a CT.

    Each set pixel belongs to the voxel at its own position, so that frames may stand in
    any order and run in any direction, also across the slices. It belongs to the slice
    nearest along the normal, at most half a step away; where the series lacks slices,
    also to an interpolated plane. Frames of one plane are united. In a label map, pixels
    that equal the number count; of fractions, those of at least a half.

    Args:
        file: Whose frames are decoded one at a time.
        number: Of the segment. One without any frame gives an empty mask.
        stack: Slices and grid of the CT.

    Raises:
        DicomError: There is no such segment, its pixels do not coincide with the CT's,
            or they cannot be decoded.
    """
    drawing = _Drawing(stack, what=f"segment {number}")
    for plane, pixels in frames_of(file, number):
        drawing.add(pixels, plane)
    return SegmentRaster(
        mask=mask_on_grid(drawing.drawn, stack), outside_voxels=drawing.outside, skipped_slices=drawing.skipped
    )


class _Drawing:
    """The planes of a stack that frames were drawn on so far.

    Attributes:
        drawn: (Y, X) masks by their place in the stack's drawable planes.
        outside: Set pixels that lie on none of them.
    """

    def __init__(self, stack: Stack, *, what: str) -> None:
        self.drawn: dict[int, PlaneMask] = {}
        self.outside = 0
        self._stack, self._what = stack, what
        self._heights = stack.drawable_mm
        self._borders = (self._heights[1:] + self._heights[:-1]) / 2
        # In a tilted series the pixels of each slice lie between the voxels of the grid, all by the same fraction.
        shifts = [np.interp(self._heights, stack.heights_mm, values) for values in stack.shifts_voxels.T]
        self._shifts = np.stack(shifts, axis=1)
        self._offsets: dict[int, float] = {}

    def add(self, pixels: PlaneMask, plane: SlicePlane) -> None:
        """Draw the set pixels of a frame."""
        rows, columns = np.nonzero(pixels)
        if rows.size == 0:
            return
        corner, down, right = self._steps(plane)
        points = corner + rows[:, None] * down + columns[:, None] * right
        places = np.searchsorted(self._borders, points[:, 0])
        exact = points[:, 1:] - self._shifts[places]
        voxels = np.rint(exact)
        self._require_voxels(exact - voxels)
        voxels += np.rint(self._shifts[places])
        offsets = points[:, 0] - self._heights[places]
        inside = np.abs(offsets) <= self._stack.step_mm / 2 * (1 + 1e-6)
        inside &= ((voxels >= 0) & (voxels < self._stack.grid.shape[1:])).all(axis=1)
        self.outside += int(np.count_nonzero(~inside))
        self._draw(places[inside], voxels[inside].astype(np.intp), offsets[inside])

    @property
    def skipped(self) -> int:
        """Slices without a set pixel between slices with one; planes that hold no slice do not count."""
        if not self.drawn:
            return 0
        slices = np.searchsorted(self._borders, self._stack.heights_mm).tolist()
        low, high = min(self.drawn), max(self.drawn)
        return sum(low < place < high and place not in self.drawn for place in slices)

    def _steps(self, plane: SlicePlane) -> NDArray[np.float64]:
        """Return a frame's first pixel and its steps to the next row and column, as (height in mm, row, column)."""
        corner, down, right = (np.array(vector) for vector in (plane.position_mm, plane.down, plane.right))
        ends = np.stack([corner, corner + down * plane.spacing_mm[0], corner + right * plane.spacing_mm[1]])
        points = self._stack.coordinates(ends)
        points[1:] -= points[0]
        steps = points[1:] / (self._stack.step_mm, 1.0, 1.0)
        whole = np.rint(steps)
        runs_along_axes = (np.abs(whole) @ np.ones(3) == 1).all() and whole[0] @ whole[1] == 0
        if not runs_along_axes or np.abs(steps - whole).max() > _OFF_STEP:
            found, expected = (f"{y:.3f} × {x:.3f} mm" for y, x in (plane.spacing_mm, self._stack.grid.spacing_mm[1:]))
            raise DicomError(
                f"{self._what} lies on another grid: found pixels of {found}, expected the CT's of {expected}, along "
                "the CT's axes; give the SEG drawn on this CT, or resample it"
            )
        return points

    def _require_voxels(self, deviation: NDArray[np.float64]) -> None:
        worst = deviation[int(np.abs(deviation).max(axis=1).argmax())]
        if np.abs(worst).max() > _OFF_VOXELS:
            raise DicomError(
                f"{self._what} lies on another grid: found pixels {worst[0]:+.2f} rows and {worst[1]:+.2f} columns off "
                f"the CT's, expected at most {_OFF_VOXELS}; give the SEG drawn on this CT, or resample it"
            )

    def _draw(self, places: NDArray[np.intp], voxels: NDArray[np.intp], offsets: NDArray[np.float64]) -> None:
        for place in np.unique(places).tolist():
            mine = places == place
            self._require_one_height(place, float(offsets[mine].mean()))
            layer = self.drawn.setdefault(place, np.zeros(self._stack.grid.shape[1:], dtype=np.bool_))
            layer[tuple(voxels[mine].T)] = True

    def _require_one_height(self, place: int, offset: float) -> None:
        """Refuse frames that stand closer than slices: their union would be larger than any of them."""
        apart = abs(self._offsets.setdefault(place, offset) - offset)
        if apart > _ONE_PLANE_SHARE * self._stack.step_mm:
            raise DicomError(
                f"{self._what} lies on another grid: found frames {apart:.2f} mm apart, expected them on the CT's "
                f"slices, {self._stack.step_mm:.2f} mm apart; give the SEG drawn on this CT, or resample it"
            )
