"""Painting solids into an image: a voxel's value is the mix of what it holds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import reduce

import numpy as np

from nnunet_cascade.geometry import Box, Grid, Image, Labels
from nnunet_cascade.phantom.points import Field, Points, box_between, single, voxel_centers
from nnunet_cascade.phantom.regions import TissueRegion, Tube

AIR_HU = -1000.0
Shade = float | Callable[[Points], Field]
"""Hounsfield units of a tissue: one value, or a value per point."""


@dataclass(frozen=True, slots=True)
class Canvas:
    """An image that solids are painted into, the later over the earlier.

    A voxel's share of a solid falls from 1 to 0 across one mean voxel size about
    the surface. On voxels far from cubes the edge is therefore somewhat too soft
    along the short sides and too sharp along the long one.

    Attributes:
        ct: (Z, Y, X), Hounsfield units. Painting changes it.
        grid: Of the same shape.
    """

    ct: Image
    grid: Grid

    @property
    def edge_mm(self) -> float:
        """Width of the edge of a solid."""
        return sum(self.grid.spacing_mm) / 3

    def paint(self, region: TissueRegion, shade: Shade) -> None:
        """Fill a solid with a tissue."""
        box = self.box_of(region)
        if box is None:
            return
        points = voxel_centers(self.grid, box)
        share = single(np.clip(0.5 - region.distance_mm(points) / np.float32(self.edge_mm), 0, 1))
        self._mix(box, share, shade(points) if callable(shade) else np.float32(shade))

    def paint_tubes(self, tubes: Sequence[Tube], hu: float, *, grown_mm: float = 0.0) -> None:
        """Fill the union of tubes with a tissue; those thinner than a voxel take their share of it."""
        boxes = [self.box_of(tube.region().grown(grown_mm)) for tube in tubes]
        met = [(tube, box) for tube, box in zip(tubes, boxes, strict=True) if box is not None]
        if not met:
            return
        frame = reduce(Box.union, (box for _, box in met))
        share = np.zeros(frame.shape, dtype=np.float32)
        for tube, box in met:
            part = share[box.relative_to(frame).slices]
            np.maximum(part, self._tube_share(tube, box, grown_mm), out=part)
        self._mix(frame, share, np.float32(hu))

    def box_of(self, region: TissueRegion) -> Box | None:
        """Return the voxels a solid may change, or None if it lies outside the image."""
        around = region.grown(self.edge_mm)
        return box_between(self.grid, around.low_mm, around.high_mm)

    def _tube_share(self, tube: Tube, box: Box, grown_mm: float) -> Field:
        radius = 0.5 * (tube.start_radius_mm + tube.stop_radius_mm) + grown_mm
        most = min(1.0, np.pi * radius**2 / self.edge_mm**2)
        distance = tube.distance_mm(voxel_centers(self.grid, box)) - np.float32(grown_mm)
        return np.float32(most) * np.clip(0.5 - distance / np.float32(self.edge_mm), 0, 1)

    def _mix(self, box: Box, share: Field, hu: Field | np.float32) -> None:
        part = self.ct[box.slices]
        part += share * (hu - part)


def label_regions(grid: Grid, regions: Sequence[TissueRegion]) -> Labels:
    """Number the voxels whose centre lies in a solid: 1 for the first, and so on.

    Returns:
        (Z, Y, X), int16; where solids overlap, the later one.
    """
    labels = np.zeros(grid.shape, dtype=np.int16)
    for number, region in enumerate(regions, start=1):
        box = box_between(grid, region.low_mm, region.high_mm)
        if box is not None:
            inside = region.distance_mm(voxel_centers(grid, box)) <= 0
            labels[box.slices][np.broadcast_to(inside, box.shape)] = number
    return labels
