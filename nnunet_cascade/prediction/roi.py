"""From candidates to regions of interest, and back from their predictions to the whole image."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from nnunet_cascade.geometry import AxisTurn, Box, Grid, Image, Index, Labels, Mask, Spacing, as_index
from nnunet_cascade.morphology import grow, label_components
from nnunet_cascade.postprocessing.candidates import Candidate
from nnunet_cascade.prediction.spec import RoiSettings


@dataclass(frozen=True, slots=True)
class Roi:
    """A region that stage 2 looks at.

    Attributes:
        id: 1, 2, …; its value in the ROI map.
        candidate: Id of the candidate it was drawn around, the first of several.
        box: The region, inside the image. Predictions count inside it alone.
        merged: Ids of further candidates whose regions it holds.

    Example:
        >>> nnc.Roi(id=1, candidate=1, box=nnc.Box((0, 0, 0), (8, 8, 8))).merged
        ()
    """

    id: int
    candidate: int
    box: Box
    merged: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Islands:
    """What became of components away from every kept candidate.

    Attributes:
        mask: (Z, Y, X), the mask after the policy.
        count: How many such components there were.
        voxels: Their size together.
        dropped: Whether they were dropped from the mask.

    Example:
        >>> nnc.Islands(mask=np.zeros((8, 8, 8), bool), count=0, voxels=0, dropped=True).count
        0
    """

    mask: Mask
    count: int
    voxels: int
    dropped: bool


def plan_rois(candidates: Sequence[Candidate], grid: Grid, settings: RoiSettings) -> tuple[Roi, ...]:
    """Draw a region around the bounding box of each candidate.

    Args:
        candidates: In the order of their regions; none give no region.
        grid: Of the image.
        settings: The margin, added on every side, then clipped to the image; and
            whether regions that overlap become one.
    """
    boxes = [with_margin(item.box, grid, settings) for item in candidates]
    groups = _merged(boxes) if settings.merge_overlapping else [(box, [place]) for place, box in enumerate(boxes)]
    return tuple(
        Roi(number, candidates[places[0]].id, box, tuple(candidates[place].id for place in places[1:]))
        for number, (box, places) in enumerate(groups, start=1)
    )


def with_margin(box: Box, grid: Grid, settings: RoiSettings) -> Box:
    """Return a box with the margin on every side, clipped to the image."""
    if settings.margin_mm is not None:
        return box.grown_mm(settings.margin_mm, grid.spacing_mm).clipped(grid.shape)
    voxels = settings.margin_voxels or 0
    return box.grown((voxels, voxels, voxels)).clipped(grid.shape)


def _merged(boxes: Sequence[Box]) -> list[tuple[Box, list[int]]]:
    """Join boxes that share a voxel, until none do; each comes with the places of those it was made of, in order."""
    apart: list[tuple[Box, list[int]]] = []
    for place, first in enumerate(boxes):
        box, places = first, [place]
        while (met := next((group for group in apart if group[0].intersection(box)), None)) is not None:
            apart.remove(met)
            box, places = box.union(met[0]), sorted([*met[1], *places])
        apart.append((box, places))
    return sorted(apart, key=lambda group: group[1])


def patch_voxels(patch_mm: Spacing, spacing_mm: Spacing) -> Index:
    """Return the number of voxels along (Z, Y, X) nearest to a patch; rounding up would cost a second window."""
    return as_index(max(1, round(length / size)) for length, size in zip(patch_mm, spacing_mm, strict=True))


class RoiBlender:
    """Predictions of overlapping regions, averaged where they overlap; what lies outside all of them costs nothing.

    The shape is the image's, (Z, Y, X); the turn says how the predictions' axes run.
    """

    def __init__(self, shape: Index, turn: AxisTurn) -> None:
        self._turn = turn
        self._sum = np.zeros(shape, dtype=np.float32)
        self._count = np.zeros(shape, dtype=np.uint16)
        self._boxes: list[Box] = []

    def paste(self, values: Image, box: Box) -> None:
        """Add the values of one region, an array of the box's shape; both run as the turn says."""
        self._turn.apply(self._sum)[box.slices] += values
        self._turn.apply(self._count)[box.slices] += 1
        self._boxes.append(box)

    def mean(self) -> Image:
        """Return the average (Z, Y, X) on the image's axes, 0 outside all regions; call it last."""
        total, count = self._turn.apply(self._sum), self._turn.apply(self._count)
        for box in self._boxes:
            total[box.slices] /= count[box.slices].astype(np.float32)
            count[box.slices] = 1  # what regions share is divided once
        return self._sum


def roi_map(rois: Sequence[Roi], shape: Index) -> Labels:
    """Return a label map (Z, Y, X) of the regions; where they overlap the first one stands."""
    labels = np.zeros(shape, dtype=np.uint16)
    for roi in reversed(rois):
        labels[roi.box.slices] = roi.id
    return labels


def is_clipped(mask: Mask, roi: Roi, regions: Labels) -> bool:
    """Tell whether a mask reaches a face of a region beyond which the image goes on and no region lies.

    The final mask and the map of all regions are both (Z, Y, X).
    """
    for axis in range(3):
        for inner, outer in (
            (roi.box.start[axis], roi.box.start[axis] - 1),
            (roi.box.stop[axis] - 1, roi.box.stop[axis]),
        ):
            if not 0 <= outer < mask.shape[axis]:
                continue
            window: list[Any] = list(roi.box.slices)
            window[axis] = inner
            beyond = [*window]
            beyond[axis] = outer
            if (mask[tuple(window)] & (regions[tuple(beyond)] == 0)).any():
                return True
    return False


def apply_island_policy(mask: Mask, kept: Mask, settings: RoiSettings, spacing_mm: Spacing) -> Islands:
    """Apply the policy on components that come nowhere near a kept candidate.

    Args:
        mask: (Z, Y, X), what stage 2 found. Left unchanged.
        kept: (Z, Y, X), the kept candidates as stage 1 drew them.
        settings: The policy and the reach.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        The mask after the policy; 26-connected components are judged whole.
    """
    dropped = settings.islands == "drop"
    if not mask.any():
        return Islands(mask, 0, 0, dropped)
    near = grow(kept, settings.island_reach_mm, spacing_mm)
    box = Box.around(mask)
    components = label_components(mask[box.slices])
    sizes = np.bincount(components.ravel())
    connected = np.zeros(len(sizes), dtype=np.bool_)
    connected[components[near[box.slices]]] = True
    connected[0] = True
    remaining = mask
    if dropped:
        remaining = np.zeros(mask.shape, dtype=np.bool_)  # unlike zeros_like it takes no memory yet
        remaining[box.slices] = mask[box.slices] & connected[components]
    return Islands(remaining, int((~connected).sum()), int(sizes[~connected].sum()), dropped)
