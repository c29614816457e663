"""Connected components, surfaces, and structuring elements given in millimetres."""

from __future__ import annotations

import math
from typing import Any, Literal, cast

import cc3d
import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.geometry import Box, Labels, Mask, Spacing, as_index

ElementShape = Literal["ball", "cube"]
_TOLERANCE_MM = 1e-6


def label_components(mask: NDArray[Any], *, connectivity: Literal[6, 26] = 26) -> NDArray[np.uint32]:
    """Number the connected components of a mask.

    Args:
        mask: (Z, Y, X), of any type: what is not 0 is inside. Left unchanged. May be empty.
        connectivity: 26 joins voxels that share a corner, 6 only those that share a face.

    Returns:
        (Z, Y, X): 0 outside the mask, 1, 2, … in the order in which the array meets the components.
    """
    # cc3d 4.1.1 sizes its tables too small for some thin boolean masks ("maximum length exception"): bytes it can.
    # Read-only memory it cannot take.
    inside = np.require(mask, dtype=np.bool_, requirements=["C", "W"]).view(np.uint8)
    return cast("NDArray[np.uint32]", cc3d.connected_components(inside, connectivity=connectivity, out_dtype=np.uint32))


def component_sizes(labels: Labels) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Return the number of voxels (n,) and the centroid (n, 3), in voxels (Z, Y, X), of the labels 1 … n.

    `labels` is unsigned, and each of the numbers occurs; without a label n is 0.
    """
    found = cc3d.statistics(labels, no_slice_conversion=True)
    return found["voxel_counts"][1:].astype(np.int64), np.asarray(found["centroids"], dtype=np.float64)[1:]


def component_boxes(labels: Labels) -> list[Box]:
    """Return the smallest box around each of the labels 1 … n, each of which occurs; none without a label."""
    return [
        Box(as_index(side.start for side in block), as_index(side.stop for side in block))
        for block in ndimage.find_objects(labels)
    ]


def surface(mask: Mask) -> Mask:
    """Mark the voxels of a mask that share a face with a voxel outside the mask.

    What lies beyond the array counts as outside, so voxels at its edge are surface.

    Args:
        mask: (Z, Y, X). Left unchanged. May be empty.

    Returns:
        (Z, Y, X), a subset of `mask`; empty only if the mask is.
    """
    inner = mask.copy()
    for axis in range(3):
        here, there = mask.swapaxes(0, axis), inner.swapaxes(0, axis)
        there[1:] &= here[:-1]
        there[:-1] &= here[1:]
        there[[0, -1]] = False
    return mask & ~inner


def with_neighbors(mask: Mask) -> Mask:
    """Return a mask with all 26 neighbours of its voxels, inside its own array."""
    grown = mask.copy()
    for axis in range(3):
        along = grown.swapaxes(0, axis)
        along[1:] |= along[:-1]
        along[:-1] |= along[1:]
    return grown


def element_offsets(radius_mm: float, shape: ElementShape, spacing_mm: Spacing) -> NDArray[np.int64]:
    """List the voxels of a symmetric structuring element, counted from its centre.

    Args:
        radius_mm: Radius of the ball, or half the width of the cube from voxel
            centre to voxel centre. 0 gives the centre alone.
        shape: "ball" or "cube".
        spacing_mm: Voxel size along (Z, Y, X). An axis whose voxels are larger than the radius has no offset but 0.

    Returns:
        (n, 3), offsets along (Z, Y, X); with each offset stands its opposite.
    """
    reach = [math.floor((radius_mm + _TOLERANCE_MM) / size) for size in spacing_mm]
    ranges = [np.arange(-steps, steps + 1) for steps in reach]
    offsets = np.stack(np.meshgrid(*ranges, indexing="ij"), axis=-1).reshape(-1, 3)
    if shape == "cube":
        return offsets
    lengths_mm = np.linalg.norm(offsets * np.array(spacing_mm), axis=1)
    return offsets[lengths_mm <= radius_mm + _TOLERANCE_MM]


def dilate(mask: Mask, offsets: NDArray[np.int64]) -> Mask:
    """Grow a mask by a structuring element, in an array that grows with it.

    Args:
        mask: (Z, Y, X). Left unchanged.
        offsets: (n, 3), symmetric, as of `element_offsets`.

    Returns:
        The grown mask; along each axis the array is longer by the element's reach
        on either side, so nothing is cut at the edge.
    """
    reach = offsets.max(axis=0)
    # np.pad keeps the order of the axes in memory, and writes to ravel() of any other than this one are lost.
    grown = np.pad(np.ascontiguousarray(mask), [(int(steps), int(steps)) for steps in reach])
    flat = grown.ravel()
    rim = np.ravel_multi_index(tuple(np.argwhere(surface(mask)).T + reach[:, None]), grown.shape)
    strides = np.array([grown.shape[1] * grown.shape[2], grown.shape[2], 1])
    for step in (offsets @ strides).tolist():
        flat[rim + step] = True
    return grown


def grow(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Grow a mask (Z, Y, X) by a ball inside its own array; an empty one stays empty."""
    grown = np.zeros(mask.shape, dtype=np.bool_)
    if not mask.any():
        return grown
    box = Box.around(mask)
    offsets = element_offsets(radius_mm, "ball", spacing_mm)
    z, y, x = offsets.max(axis=0).tolist()
    outer = box.grown((z, y, x))
    inside = outer.clipped(as_index(mask.shape))
    grown[inside.slices] = dilate(mask[box.slices], offsets)[inside.relative_to(outer).slices]
    return grown
