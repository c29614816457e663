"""From the slices of an irregular series to the planes of its grid."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
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
    placed = _PlacedMask(slices, stack)
    volume = np.empty(stack.grid.shape, dtype=slices.dtype)
    for plane, source in enumerate(stack.sources):
        values = placed[source] if source is not None else _between(placed, stack, plane * stack.step_mm)
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
    known = [place for place in range(len(heights)) if place not in virtual or place in drawn]
    between = _Between(drawn=drawn, known_mm={place: float(heights[place]) for place in known}, stack=stack)
    for plane, source in enumerate(stack.sources):
        place = _place(heights, plane * stack.step_mm if source is None else float(stack.heights_mm[source]))
        if place in drawn:
            mask[plane] = drawn[place]
        elif source is None:
            mask[plane] = between.at(plane * stack.step_mm)
    return mask


class _PlacedMask:
    """Slices moved to where they lie on the grid, one at a time."""

    def __init__(self, slices: NDArray[Any], stack: Stack) -> None:
        self._slices, self._stack = slices, stack

    def __getitem__(self, place: int) -> NDArray[Any]:
        values, shift = self._slices[place], self._stack.shifts_voxels[place]
        shape = self._stack.grid.shape[1:]
        if not shift.any() and values.shape == shape:
            return values
        padded = np.full(shape, AIR_HU, dtype=np.float32)
        padded[: values.shape[0], : values.shape[1]] = values
        return ndimage.shift(padded, shift, order=1, mode="constant", cval=AIR_HU)


def _between(placed: _PlacedMask, stack: Stack, height_mm: float) -> NDArray[Any]:
    above = int(np.searchsorted(stack.heights_mm, height_mm))
    above = min(max(above, 1), len(stack.heights_mm) - 1)
    low, high = stack.heights_mm[above - 1], stack.heights_mm[above]
    share = (height_mm - low) / (high - low)
    return placed[above - 1] * (1.0 - share) + placed[above] * share


def _place(heights: NDArray[np.float64], height_mm: float) -> int:
    return int(np.argmin(np.abs(heights - height_mm)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Between:
    """Masks where there is no slice.

    Attributes:
        drawn: (Y, X) by place among the drawable planes.
        known_mm: Heights of the planes of which it is known what they show, by place.
        stack: Where slices and planes lie.
    """

    drawn: Mapping[int, PlaneMask]
    known_mm: Mapping[int, float]
    stack: Stack

    def at(self, height_mm: float) -> PlaneMask | bool:
        """Return the mask at a height, or False if nothing shows."""
        below = max((place for place, known in self.known_mm.items() if known <= height_mm), default=None)
        above = min((place for place, known in self.known_mm.items() if known > height_mm), default=None)
        if below is None or above is None:
            return False
        to_below, to_above = height_mm - self.known_mm[below], self.known_mm[above] - height_mm
        if self._shows(below) and self._shows(above):
            share = to_below / (to_below + to_above)
            return _blended(self.drawn[below], self.drawn[above], share, self.stack.grid.spacing_mm[1:])
        nearer, distance = (below, to_below) if to_below <= to_above else (above, to_above)
        return self.drawn[nearer] if self._shows(nearer) and distance <= self.stack.step_mm / 2 else False

    def _shows(self, place: int) -> bool:
        return place in self.drawn and bool(self.drawn[place].any())


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
