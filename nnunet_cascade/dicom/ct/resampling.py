"""From the slices of an irregular series to the planes of its grid."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.dicom.ct.geometry import Stack
from nnunet_cascade.geometry import Mask
from nnunet_cascade.images import AIR_HU

PlaneMask = NDArray[np.bool_]
"""(Y, X) on a plane of a stack's grid."""


def resample_voxels(slices: NDArray[Any], stack: Stack) -> NDArray[Any]:
    """Return a volume on the stack's grid: slices that lie on its planes as they are, linear interpolation between.

    Slices that drift sideways are moved to their place within the plane, linearly too;
    where none reaches, there is air (−1024 HU).

    Args:
        slices: (N, Y, X), in the stack's order. Left unchanged.
        stack: Of these slices.

    Returns:
        (Z, Y, X), of the slices' type; integers are rounded.
    """
    volume = np.empty(stack.grid.shape, dtype=slices.dtype)
    for plane, source in enumerate(stack.sources):
        height_mm = plane * stack.step_mm
        values = _between(slices, stack, height_mm) if source is None else _placed(slices, stack, source)
        volume[plane] = np.rint(values) if slices.dtype.kind == "i" else values
    return volume


def mask_on_grid(drawn: Mapping[int, PlaneMask], stack: Stack) -> Mask:
    """Return a mask on the stack's grid from masks on its drawable planes.

    Planes of the grid that hold a slice, or on which something was drawn, get just
    that. The others are interpolated between their nearest neighbours of that kind: by
    the signed distance to the outline where both show something; where one is empty,
    the nearer one counts if it lies within half a step.

    Args:
        drawn: For planes of `stack.drawable_mm`, by their place there, what was drawn: (Y, X) on the grid.
        stack: Where slices and planes lie.

    Returns:
        (Z, Y, X) on the stack's grid.
    """
    mask = np.zeros(stack.grid.shape, dtype=np.bool_)
    heights = stack.drawable_mm
    virtual = {_place(heights, plane * stack.step_mm) for plane in stack.interpolated}
    known_mm = {place: float(heights[place]) for place in range(len(heights)) if place not in virtual or place in drawn}
    shown = {place: mask for place, mask in drawn.items() if mask.any()}
    for plane, source in enumerate(stack.sources):
        place = _place(heights, plane * stack.step_mm if source is None else float(stack.heights_mm[source]))
        if place in drawn:
            mask[plane] = drawn[place]
        elif source is None:
            mask[plane] = _blend_at(plane * stack.step_mm, known_mm, shown, stack)
    return mask


def _placed(slices: NDArray[Any], stack: Stack, place: int) -> NDArray[Any]:
    """Return a slice moved to where it lies on the grid."""
    values, shift, shape = slices[place], stack.shifts_voxels[place], stack.grid.shape[1:]
    if not shift.any() and values.shape == shape:
        return values
    padded = np.full(shape, AIR_HU, dtype=np.float32)
    padded[: values.shape[0], : values.shape[1]] = values
    return ndimage.shift(padded, shift, order=1, mode="constant", cval=AIR_HU)


def _between(slices: NDArray[Any], stack: Stack, height_mm: float) -> NDArray[Any]:
    above = int(np.searchsorted(stack.heights_mm, height_mm))
    above = min(max(above, 1), len(stack.heights_mm) - 1)
    low, high = stack.heights_mm[above - 1], stack.heights_mm[above]
    share = (height_mm - low) / (high - low)
    return _placed(slices, stack, above - 1) * (1.0 - share) + _placed(slices, stack, above) * share


def _place(heights: NDArray[np.float64], height_mm: float) -> int:
    return int(np.argmin(np.abs(heights - height_mm)))


def _blend_at(
    height_mm: float, known_mm: Mapping[int, float], shown: Mapping[int, PlaneMask], stack: Stack
) -> PlaneMask | bool:
    """Return the mask on a plane without a slice, or False if nothing shows.

    Known are the heights of planes of which it is known what they show, by place; shown is what is not empty.
    """
    below = max((place for place, known in known_mm.items() if known <= height_mm), default=None)
    above = min((place for place, known in known_mm.items() if known > height_mm), default=None)
    if below is None or above is None:
        return False
    to_below, to_above = height_mm - known_mm[below], known_mm[above] - height_mm
    if below in shown and above in shown:
        share = to_below / (to_below + to_above)
        return _blended(shown[below], shown[above], share, stack.grid.spacing_mm[1:])
    nearer, distance = (below, to_below) if to_below <= to_above else (above, to_above)
    return shown[nearer] if nearer in shown and distance <= stack.step_mm / 2 else False


def _blended(low: PlaneMask, high: PlaneMask, share: float, spacing_mm: tuple[float, float]) -> PlaneMask:
    """Return the outline at a share of the way from one mask to another, neither of them empty."""
    mask = np.zeros_like(low)
    rows, columns = (np.flatnonzero((low | high).any(axis=axis)) for axis in (1, 0))
    box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
    below, above = _signed_distance(low[box], spacing_mm), _signed_distance(high[box], spacing_mm)
    mask[box] = below * (1.0 - share) + above * share > 0
    return mask


def _signed_distance(mask: PlaneMask, spacing_mm: tuple[float, float]) -> NDArray[np.float64]:
    """Return the distance to the outline in mm, positive inside; the outline runs half-way between voxels."""
    # One voxel of background around: a mask that fills its box has an outline too.
    padded = np.pad(mask, 1)
    inside = np.asarray(ndimage.distance_transform_edt(padded, sampling=spacing_mm))
    outside = np.asarray(ndimage.distance_transform_edt(~padded, sampling=spacing_mm))
    half = min(spacing_mm) / 2
    return np.where(padded, inside - half, half - outside)[1:-1, 1:-1]
