"""Where calibration is measured: near the tumor, for everywhere else background alone would decide."""

from __future__ import annotations

import itertools
import math
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.evaluation.mask_pair import require_pair, shared_grid
from nnunet_cascade.geometry import Box, Mask, Spacing, as_index
from nnunet_cascade.morphology import dilate

RegionName = Literal["union", "surface"]
REGIONS: dict[str, str] = {
    "union": "voxels within 5 mm of the union of truth and prediction",
    "surface": "voxels within 3 mm of the surface of the truth, on both sides",
}
"""What the regions are, in words for tables and files; a voxel lies where its centre lies."""
UNION_MM = 5.0
SURFACE_MM = 3.0
_TOLERANCE_MM = 1e-6


def region_of(name: str, truth: Mask, prediction: Mask, spacing_mm: Spacing) -> Mask:
    """Mark one of `REGIONS`.

    Args:
        name: Which.
        truth: (Z, Y, X); may be empty.
        prediction: (Z, Y, X), same grid; may be empty.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X). "union" is empty if both masks are, "surface" where the truth is.

    Raises:
        SettingsError: The name is unknown, or as `near_union`.
        GridMismatchError: The shapes differ.
    """
    if name == "union":
        return near_union(truth, prediction, spacing_mm=spacing_mm)
    if name != "surface":
        raise SettingsError(f"region {name!r}; expected one of {', '.join(REGIONS)}")
    require_pair(truth, prediction)
    return near_surface(truth, spacing_mm=spacing_mm)


def near_union(truth: Mask, prediction: Mask, *, spacing_mm: Spacing, distance_mm: float = UNION_MM) -> Mask:
    """Mark the union of truth and prediction and all within a distance of it.

    Returns:
        (Z, Y, X); empty if both masks are.

    Raises:
        SettingsError: A mask is not a boolean volume, or a size or the distance is out of range.
        GridMismatchError: The shapes differ.
    """
    require_pair(truth, prediction)
    return within_mm(truth | prediction, spacing_mm=spacing_mm, distance_mm=distance_mm)


def near_surface(truth: Mask, *, spacing_mm: Spacing, distance_mm: float = SURFACE_MM) -> Mask:
    """Mark the voxels whose centre lies within a distance of the surface of a mask, inside and outside.

    The surface is made of the voxel faces between mask and background. Where the
    array ends nothing is known, and no face counts.

    Returns:
        (Z, Y, X); empty if the mask is empty or full, and along an axis whose
        voxels are more than twice as long as the distance.

    Raises:
        SettingsError: The mask is not a boolean volume, or a size or the distance is out of range.
    """
    shared_grid(truth, truth, spacing_mm)
    band = np.zeros_like(truth)
    if truth.any():
        near = Box.around(truth).grown(_reach(distance_mm, spacing_mm)).clipped(as_index(truth.shape)).slices
        named: dict[str, Any] = {"spacing_mm": spacing_mm, "distance_mm": distance_mm}
        band[near] = within_mm(truth[near], **named) & within_mm(~truth[near], **named)
    return band


def within_mm(mask: Mask, *, spacing_mm: Spacing, distance_mm: float) -> Mask:
    """Mark the voxels whose centre lies within a distance of a mask, taken as the solid of its voxels.

    From centre to solid, not to the nearest centre: a mask does not end half a voxel
    before its faces, and slices of 5 mm have neighbours 2.5 mm away, not 5.

    Args:
        mask: (Z, Y, X). Left unchanged.
        spacing_mm: Voxel size along (Z, Y, X).
        distance_mm: At least 0; 0 gives the mask.

    Returns:
        (Z, Y, X), a superset of `mask`; empty if `mask` is.

    Raises:
        SettingsError: The mask is not a boolean volume, or a size or the distance is out of range.
    """
    shared_grid(mask, mask, spacing_mm)
    offsets = _solid_ball(distance_mm, spacing_mm)
    near = np.zeros_like(mask)
    if mask.any():
        whole = as_index(mask.shape)
        tight = Box.around(mask)
        grown = tight.grown(as_index(offsets.max(axis=0)))
        inside = grown.clipped(whole)
        # dilate writes through a flat view, which an array in Fortran's order would not give it
        solid = np.ascontiguousarray(mask[tight.slices])
        near[inside.slices] = dilate(solid, offsets)[inside.relative_to(grown).slices]
    return near


def require_same_shape(*arrays: NDArray[np.generic]) -> None:
    """Raise a GridMismatchError unless all arrays have one shape."""
    shapes = {array.shape for array in arrays}
    if len(shapes) > 1:
        raise GridMismatchError(f"found arrays of shapes {sorted(shapes)}; expected one grid: resample to the truth's")


def _reach(distance_mm: float, spacing_mm: Spacing) -> tuple[int, int, int]:
    """Return how many voxels away a solid voxel may lie and still be near."""
    if not (math.isfinite(distance_mm) and distance_mm >= 0):
        raise SettingsError(f"a distance of {distance_mm} mm; expected a number from 0 up")
    return as_index(math.floor((distance_mm + _TOLERANCE_MM) / size + 0.5) for size in spacing_mm)


def _solid_ball(distance_mm: float, spacing_mm: Spacing) -> NDArray[np.int64]:
    """List the offsets (n, 3) of the voxels whose solid comes within a distance of a voxel's centre."""
    reach = _reach(distance_mm, spacing_mm)
    offsets = itertools.product(*(range(-steps, steps + 1) for steps in reach))
    near = [
        offset
        for offset in offsets
        if math.hypot(*(max(0.0, abs(k) - 0.5) * size for k, size in zip(offset, spacing_mm, strict=True)))
        <= distance_mm + _TOLERANCE_MM
    ]
    return np.array(near, dtype=np.int64)
