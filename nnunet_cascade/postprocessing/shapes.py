"""Small shapes in voxels: surfaces, and structuring elements given in millimetres."""

from __future__ import annotations

import math
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.geometry import Mask, Spacing

ElementShape = Literal["ball", "cube"]
_TOLERANCE_MM = 1e-6


def surface(mask: Mask) -> Mask:
    """Mark the voxels of a mask that have a face in common with what is not the mask.

    Beyond the array there is no mask, so voxels at its edge are surface.

    Returns:
        (Z, Y, X), a subset of `mask`; empty only where the mask is.
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
        spacing_mm: Voxel size along (Z, Y, X). An axis whose voxels are larger than
            the radius has no offset but 0.

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
