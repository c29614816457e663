"""Tell the right lung from the left and close each over its tumors and vessels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.segmentation import watershed

from nnunet_cascade.geometry import Box, Mask, Spacing
from nnunet_cascade.postprocessing.lungs.regions import (
    LungRegion,
    chosen,
    close,
    discs_of,
    distance_mm,
    fill_slices,
    regions_of,
)
from nnunet_cascade.postprocessing.lungs.result import LEFT, RIGHT

_CLOSING_MM = 10.0
_LARGEST_HOLE_MM2 = 1500.0
_SECOND_LUNG_SHARE = 0.15
_SHARED_COLUMNS = 0.25
_CUT_SHARE = 0.5
_EROSIONS_MM = (0.0, 2.0, 4.0, 6.0, 8.0, 10.0, 14.0, 18.0)


def split_sides(lungs: Mask, body: Mask, spacing_mm: Spacing) -> NDArray[np.uint8]:
    """Label the right lung 1 and the left 2.

    The lungs are eroded until large regions remain on either side of the body's middle, side by side and not one behind
    the other as the lobes of a single lung are; what lies between is given to the one it hangs together with. Where no
    erosion parts them, the lung is single and takes the side it mostly lies in, or, where the image cuts the body
    through, the side away from the cut.

    Args:
        lungs: (Z, Y, X), upright, not empty.
        body: (Z, Y, X), the body with all it encloses.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), uint8; labels exactly `lungs`.
    """
    box = Box.around(lungs)
    inside = lungs[box.slices]
    middle = float(np.argwhere(body.any(axis=(0, 1))).mean()) - box.start[2]
    depth_mm = distance_mm(np.pad(inside, 1), spacing_mm)[1:-1, 1:-1, 1:-1]
    parted = _parted(inside, depth_mm, middle)
    if parted is None:
        cut = _cut_face(body)
        parted = _single(inside, depth_mm, middle if cut is None else float(cut - box.start[2]))
    labels = np.zeros(lungs.shape, dtype=np.uint8)
    labels[box.slices] = parted
    return labels


def close_sides(labels: NDArray[np.uint8], forbidden: Mask, spacing_mm: Spacing) -> NDArray[np.uint8]:
    """Close each lung over vessels and tumors, never into the other lung or what is forbidden.

    Args:
        labels: (Z, Y, X), 1 right, 2 left. Left unchanged.
        forbidden: (Z, Y, X), what must not become lung: airway, other gas, the outside.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), uint8; holds all of `labels`.
    """
    closed = labels.copy()
    for side in (RIGHT, LEFT):
        mask = labels == side
        if mask.any():
            box = Box.around(mask)
            whole = _fill_small_holes(close(mask[box.slices], _CLOSING_MM, spacing_mm), spacing_mm)
            part = closed[box.slices]
            part[whole & (part == 0) & ~forbidden[box.slices]] = side
    return closed


def _cut_face(body: Mask) -> int | None:
    """Return the column at the side where the image cuts the body through, or None if it does so at neither or both.

    A field of view that only grazes an arm or a hip cuts little of the body's outline.
    """
    outline = int(np.count_nonzero(body.any(axis=2)))
    first, last = (int(np.count_nonzero(body[:, :, column])) for column in (0, -1))
    if max(first, last) < _CUT_SHARE * outline or min(first, last) > _CUT_SHARE * max(first, last):
        return None
    return 0 if first > last else body.shape[2] - 1


def _parted(inside: Mask, depth_mm: NDArray[np.float32], middle: float) -> NDArray[np.uint8] | None:
    """Label two lungs, or give None if there are no two."""
    for radius_mm in _EROSIONS_MM:
        seeds, large = _large_regions(depth_mm > radius_mm)
        places = [region.centroid[2] for region in large]
        if places and min(places) < middle < max(places):
            sided = _sided(seeds, large, (min(places) + max(places)) / 2)
            labels = _spread(sided, inside, depth_mm)
            if _are_side_by_side(labels):
                return labels
    return None


def _are_side_by_side(labels: NDArray[np.uint8]) -> bool:
    """Return whether at most a quarter of the smaller side lies in columns that as much of the other side shares."""
    right, left = (np.count_nonzero(labels == side, axis=(0, 1)) for side in (RIGHT, LEFT))
    return int(np.minimum(right, left).sum()) <= _SHARED_COLUMNS * min(int(right.sum()), int(left.sum()))


def _single(inside: Mask, depth_mm: NDArray[np.float32], middle: float) -> NDArray[np.uint8]:
    """Label a single lung by the side that most of it lies in; fragments may be of the other one."""
    large = chosen(*_large_regions(inside))
    side = RIGHT if float(np.argwhere(large)[:, 2].mean()) <= middle else LEFT
    return _spread((side * large).astype(np.uint8), inside, depth_mm)


def _large_regions(mask: Mask) -> tuple[NDArray[np.uint32], list[LungRegion]]:
    labels, regions = regions_of(mask)
    return labels, [region for region in regions if region.voxels >= _SECOND_LUNG_SHARE * regions[0].voxels]


def _spread(seeds: NDArray[np.uint8], inside: Mask, depth_mm: NDArray[np.float32]) -> NDArray[np.uint8]:
    """Return every voxel the seed it hangs together with, or that of the side it lies on."""
    labels = np.asarray(watershed(-depth_mm, seeds.astype(np.int32), mask=inside)).astype(np.uint8)
    left_out = inside & (labels == 0)
    if left_out.any():
        places = [float(np.argwhere(seeds == side)[:, 2].mean()) for side in (RIGHT, LEFT) if (seeds == side).any()]
        fragments, regions = regions_of(left_out)
        labels += _sided(fragments, regions, sum(places) / len(places))
    return labels


def _sided(labels: NDArray[np.uint32], regions: list[LungRegion], middle: float) -> NDArray[np.uint8]:
    right = chosen(labels, [region for region in regions if region.centroid[2] <= middle])
    left = chosen(labels, [region for region in regions if region.centroid[2] > middle])
    return (RIGHT * right + LEFT * left).astype(np.uint8)


def _fill_small_holes(mask: Mask, spacing_mm: Spacing) -> Mask:
    """Fill holes up to 15 cm² in a slice, which spares the heart."""
    labels, holes = discs_of(fill_slices(mask) & ~mask)
    largest = _LARGEST_HOLE_MM2 / (spacing_mm[1] * spacing_mm[2])
    return mask | chosen(labels, [hole for hole in holes if hole.voxels <= largest])
