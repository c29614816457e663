"""From a binary mask to numbered candidates: fragments that lie close together become one."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import cast, get_args

import cc3d
import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.geometry import Box, Grid, Labels, Mask
from nnunet_cascade.postprocessing.shapes import ElementShape, dilate, element_offsets

_LARGEST_RADIUS_MM = 25.0
_TIE_DECIMALS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSettings:
    """How near fragments must lie to count as one candidate.

    Attributes:
        radius_mm: Radius of the structuring element that grows the mask before its
            components are found; 0 merges nothing. Two fragments merge where their
            grown masks touch, so up to about twice the radius apart.
        shape: "ball", or "cube" as in the paper.

    Raises:
        SettingsError: The radius is negative or above 25 mm, or the shape unknown.
    """

    radius_mm: float = 3.0
    shape: ElementShape = "ball"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.radius_mm) and 0 <= self.radius_mm <= _LARGEST_RADIUS_MM):
            raise SettingsError(f"merge radius is {self.radius_mm} mm; expected 0 to {_LARGEST_RADIUS_MM:g} mm")
        if self.shape not in get_args(ElementShape):
            raise SettingsError(f"merge shape is {self.shape!r}; expected one of {get_args(ElementShape)}")


def label_candidates(tumor: Mask, grid: Grid, merge: MergeSettings) -> Labels:
    """Number the candidates of a tumor mask by falling volume.

    The mask is grown by a symmetric element, the 26-connected components of the
    grown mask are found, and their labels are read off on the mask as it was: no
    voxel is added, lost or shifted.

    Args:
        tumor: (Z, Y, X). Left unchanged. May be empty.
        grid: The grid of `tumor`.
        merge: The structuring element.

    Returns:
        (Z, Y, X), int32: 0 outside `tumor`, 1 for the largest candidate. Equal
        volumes are ordered by their centroid in the patient, from the foot up, front
        to back and right to left, whatever the order of the array.

    Raises:
        GridMismatchError: `tumor` is not of the grid's shape.

    Source:
        Isler et al., merging by dilation; digest P2 and P3.
    """
    if tumor.shape != grid.shape:
        raise GridMismatchError(f"tumor mask has shape {tumor.shape}, its grid {grid.shape}; give both of one image")
    labels = np.zeros(grid.shape, dtype=np.int32)
    if tumor.any():
        box = Box.around(tumor)
        labels[box.slices] = _by_falling_volume(_components(tumor[box.slices], grid, merge), grid.cropped(box))
    return labels


def _components(mask: Mask, grid: Grid, merge: MergeSettings) -> NDArray[np.int32]:
    offsets = element_offsets(merge.radius_mm, merge.shape, grid.spacing_mm)
    # bytes: cc3d 4.1.1 sizes its tables too small for booleans in a single row ("maximum length exception")
    grown = dilate(mask, offsets).view(np.uint8)
    found = cast("NDArray[np.uint32]", cc3d.connected_components(grown, connectivity=26))
    z, y, x = (slice(steps, steps + size) for steps, size in zip(offsets.max(axis=0).tolist(), mask.shape, strict=True))
    return np.where(mask, found[z, y, x], 0).astype(np.int32)


def _by_falling_volume(components: NDArray[np.int32], grid: Grid) -> NDArray[np.int32]:
    statistics = cc3d.statistics(components.astype(np.uint32), no_slice_conversion=True)
    counts = statistics["voxel_counts"]
    keys = [
        (-int(counts[label]), *_place(grid, statistics["centroids"][label]), label) for label in range(1, len(counts))
    ]
    ids = np.zeros(len(counts), dtype=np.int32)
    for rank, key in enumerate(sorted(keys), start=1):
        ids[int(key[-1])] = rank
    return ids[components]


def _place(grid: Grid, centroid: NDArray[np.float64]) -> tuple[float, float, float]:
    x, y, z = grid.world_mm((float(centroid[0]), float(centroid[1]), float(centroid[2])))
    return round(z, _TIE_DECIMALS), round(y, _TIE_DECIMALS), round(x, _TIE_DECIMALS)
