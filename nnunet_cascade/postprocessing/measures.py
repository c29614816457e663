"""Measure candidates: their size, where they lie, and how near the lungs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import KDTree

from nnunet_cascade.errors import EmptyLungsError, InputImageError
from nnunet_cascade.geometry import Box, Grid, Image, Labels, Mask, crop_with_fill
from nnunet_cascade.morphology import component_boxes, surface, with_neighbors
from nnunet_cascade.postprocessing.candidates import Candidate, Side

_TOLERANCE_MM = 1e-6
_TOLERANCE_VOXELS = 1e-6
_FIRST_LOOK = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class LungReference:
    """The lungs, prepared for many measurements.

    Attributes:
        mask: (Z, Y, X), not empty.
        box: Smallest block that holds it.
        grid: The grid of `mask`.
        surface_mm: Positions of the lung surface voxels along (Z, Y, X), for nearest-neighbour search.
        near_mm: How far from a lung a surface voxel of a candidate counts as near.
        central_share: Share of the lungs' width, left to right, that is the central zone.
    """

    mask: Mask
    box: Box
    grid: Grid
    surface_mm: KDTree
    near_mm: float
    central_share: float

    @classmethod
    def of(cls, lungs: Mask, grid: Grid, *, near_mm: float, central_share: float) -> LungReference:
        """Prepare a lung mask.

        Raises:
            EmptyLungsError: `lungs` has no voxel.
        """
        if not lungs.any():
            raise EmptyLungsError("the lung mask is empty; nothing can be measured against it: keep all candidates")
        box = Box.around(lungs)
        rim = np.argwhere(surface(lungs[box.slices])) + box.start
        tree = KDTree(rim * np.array(grid.spacing_mm))
        return cls(mask=lungs, box=box, grid=grid, surface_mm=tree, near_mm=near_mm, central_share=central_share)

    def distances_mm(self, candidate: Mask, box: Box) -> NDArray[np.float64]:
        """Return the distance to the lungs of each surface voxel of a candidate, given as what of `box` it fills.

        Returns:
            (n,), one distance per surface voxel: from its centre to the centre of the
            nearest lung voxel, 0 if the two touch (26 neighbours) or are one. Exact up to
            `near_mm` and for the smallest; others may be infinite, which saves most of the search.
        """
        rim = surface(candidate)
        around = crop_with_fill(cast("Image", self.mask), box.grown((1, 1, 1)), fill=0)
        touching = with_neighbors(cast("Mask", around))[1:-1, 1:-1, 1:-1]
        distances = np.zeros(int(np.count_nonzero(rim)))
        apart = ~touching[rim]
        if apart.any():
            points_mm = (np.argwhere(rim)[apart] + box.start).astype(np.float64) * self.grid.spacing_mm
            distances[apart] = self._nearest_mm(points_mm)
        return distances

    def _nearest_mm(self, points_mm: NDArray[np.float64]) -> NDArray[np.float64]:
        looked_at = points_mm[:: 1 + len(points_mm) // _FIRST_LOOK]
        found_mm = np.asarray(self.surface_mm.query(looked_at)[0], dtype=np.float64)
        bound_mm = max(self.near_mm, float(np.min(found_mm))) + 2 * _TOLERANCE_MM
        # From one point to another the distance changes by no more than the way between them.
        ways_mm, nearest = KDTree(looked_at).query(points_mm)
        within = found_mm[nearest] - ways_mm <= bound_mm
        distances_mm = np.full(len(points_mm), np.inf)
        distances_mm[within] = self.surface_mm.query(points_mm[within], distance_upper_bound=bound_mm)[0]
        return distances_mm

    def side_of(self, centroid: tuple[float, float, float]) -> Side:
        """Tell on which side of the patient a voxel index (Z, Y, X) lies, or whether between the lungs.

        The central zone is the middle part of the lungs' bounding box along the array
        axis that runs from the patient's right to the left, wherever that axis is.
        """
        axis, towards_left = self.grid.array_axis("left-right")
        middle = (self.box.start[axis] + self.box.stop[axis] - 1) / 2
        half_width = (self.box.stop[axis] - self.box.start[axis]) / 2
        offset = (centroid[axis] - middle) * towards_left
        if abs(offset) <= self.central_share * half_width + _TOLERANCE_VOXELS:
            return "central"
        return "left" if offset > 0 else "right"


def measure_candidates(
    labels: Labels,
    grid: Grid,
    lungs: LungReference | None,
    *,
    probability: Image | None = None,
    uncertainty: Image | None = None,
) -> tuple[Candidate, ...]:
    """Measure every candidate of a label map.

    Args:
        labels: (Z, Y, X), ids 1 to n without a gap, 0 outside. May be all 0.
        grid: The grid of `labels`.
        lungs: On the same grid; None if no lung mask can be trusted.
        probability: (Z, Y, X), tumor probability on the same grid; None if unknown.
        uncertainty: (Z, Y, X), in any measure, on the same grid; None if unknown.

    Returns:
        One candidate per id, in that order, undecided; none if there is no label.

    Raises:
        InputImageError: A map is not finite inside a candidate.
    """
    found: list[Candidate] = []
    for number, box in enumerate(component_boxes(labels), start=1):
        mask = labels[box.slices] == number
        plain = _measure(number, mask, box, grid)
        if probability is not None:
            values = _values(probability, plain, mask, what="probability map")
            mean = float(values.mean(dtype=np.float64))
            plain = replace(plain, mean_probability=mean, max_probability=float(values.max()))
        if uncertainty is not None:
            values = _values(uncertainty, plain, mask, what="uncertainty map")
            plain = replace(plain, mean_uncertainty=float(values.mean(dtype=np.float64)))
        found.append(plain if lungs is None else _against(lungs, plain, mask))
    return tuple(found)


def _measure(number: int, mask: Mask, box: Box, grid: Grid) -> Candidate:
    voxels = int(np.count_nonzero(mask))
    z, y, x = (float(value) for value in np.argwhere(mask).mean(axis=0) + box.start)
    return Candidate(
        id=number,
        voxels=voxels,
        volume_mm3=voxels * grid.voxel_volume_mm3,
        box=box,
        centroid_voxels=(z, y, x),
        centroid_mm=grid.world_mm((z, y, x)),
        touches_border=min(box.start) == 0 or any(a == b for a, b in zip(box.stop, grid.shape, strict=True)),
    )


def _values(image: Image, candidate: Candidate, mask: Mask, *, what: str) -> NDArray[np.float32]:
    values = image[candidate.box.slices][mask]
    if not np.isfinite(values).all():
        raise InputImageError(
            f"the {what}, candidate {candidate.id}: found values that are not finite; expected numbers, "
            "give another map or none"
        )
    return values


def _against(lungs: LungReference, candidate: Candidate, mask: Mask) -> Candidate:
    distances_mm = lungs.distances_mm(mask, candidate.box)
    side = lungs.side_of(candidate.centroid_voxels)
    overlap = np.count_nonzero(lungs.mask[candidate.box.slices] & mask) / candidate.voxels
    return replace(
        candidate,
        lung_overlap=float(overlap),
        lung_distance_mm=0.0 if overlap > 0 else float(distances_mm.min()),
        near_surface_share=float(np.mean(distances_mm <= lungs.near_mm + _TOLERANCE_MM)),
        central=side == "central",
        side=side,
    )
