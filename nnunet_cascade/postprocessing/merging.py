"""From a binary mask to numbered candidates: fragments that lie close together become one."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import get_args

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.errors import GridMismatchError, SettingsError
from nnunet_cascade.geometry import Box, Grid, Labels, Mask, as_index
from nnunet_cascade.morphology import (
    ElementShape,
    component_boxes,
    component_sizes,
    dilate,
    element_offsets,
    label_components,
)

_LARGEST_RADIUS_MM = 25.0
_SMALLEST_BLOCK = 16


@dataclass(frozen=True, slots=True, kw_only=True)
class MergeSettings:
    """How near fragments must lie to count as one candidate.

    Attributes:
        radius_mm: Radius of the structuring element that grows the mask before its components are found; 0 merges
            nothing. Two fragments merge where their grown masks touch, so up to about twice the radius apart.
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
        (Z, Y, X), int32: 0 outside `tumor`, 1 for the largest candidate. Equal volumes are ordered by their centroid in
        the patient, from the foot up, front to back and right to left, whatever the order of the array.

    Raises:
        GridMismatchError: `tumor` is not of the grid's shape.

    Source:
        Isler et al., merging by dilation; docs/paper-departures.md, P2 and P3.
    """
    if tumor.shape != grid.shape:
        raise GridMismatchError(f"tumor mask has shape {tumor.shape}, its grid {grid.shape}; give both of one image")
    offsets = element_offsets(merge.radius_mm, merge.shape, grid.spacing_mm)
    labels = np.zeros(grid.shape, dtype=np.int32)
    pieces = tuple(_pieces(tumor, offsets.max(axis=0)))
    counts, sums = [np.zeros(0, dtype=np.int64)], [np.zeros((0, 3), dtype=np.int64)]
    before = 0
    for box, piece in pieces:
        components = _components(piece, offsets)
        labels[box.slices][piece] = components[piece] + np.uint32(before)
        count, index_sums = _sizes(components, box)
        counts.append(count)
        sums.append(index_sums)
        before += len(count)
    ids = _by_falling_volume(np.concatenate(counts), np.concatenate(sums), grid)
    for box, piece in pieces:
        part = labels[box.slices]
        part[piece] = ids[part[piece]]
    return labels


def _pieces(mask: Mask, reach: NDArray[np.int64]) -> Iterator[tuple[Box, Mask]]:
    """Part a mask into pieces between which nothing can merge, so that empty space costs nothing.

    The array is cut into blocks at least as long as merging reaches: what lies in
    blocks that do not touch stays apart.

    Args:
        mask: (Z, Y, X). Left unchanged.
        reach: Of the structuring element along (Z, Y, X).

    Yields:
        Box and piece of it; boxes may overlap, pieces never do.
    """
    size = as_index(max(_SMALLEST_BLOCK, 2 * int(steps) + 1) for steps in reach)
    filled = mask
    for axis in range(3):
        slabs = np.array_split(filled, range(size[axis], mask.shape[axis], size[axis]), axis=axis)
        filled = np.stack([slab.any(axis=axis) for slab in slabs], axis=axis)
    clusters = label_components(filled)
    for number, where in enumerate(component_boxes(clusters), start=1):
        inside = clusters[where.slices] == number
        for axis in range(3):
            inside = inside.repeat(size[axis], axis=axis)
        start = as_index(low * step for low, step in zip(where.start, size, strict=True))
        stop = as_index(high * step for high, step in zip(where.stop, size, strict=True))
        box = Box(start, stop).clipped(as_index(mask.shape))
        z, y, x = box.shape
        yield box, mask[box.slices] & inside[:z, :y, :x]


def _components(mask: Mask, offsets: NDArray[np.int64]) -> NDArray[np.uint32]:
    found = label_components(dilate(mask, offsets))
    z, y, x = (slice(steps, steps + size) for steps, size in zip(offsets.max(axis=0).tolist(), mask.shape, strict=True))
    return found[z, y, x] * mask


def _sizes(components: NDArray[np.uint32], box: Box) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the number of voxels of each component, and the sum of their indices in the whole array."""
    counts, centroids = component_sizes(components)
    inside = np.rint(centroids * counts[:, None]).astype(np.int64)
    return counts, inside + counts[:, None] * np.array(box.start)


def _by_falling_volume(counts: NDArray[np.int64], index_sums: NDArray[np.int64], grid: Grid) -> NDArray[np.int32]:
    """Return the id of each component, with a 0 ahead for the background.

    Places are compared as whole numbers: rounding must not decide differently in another layout.
    """
    axes = [grid.array_axis(name) for name in ("left-right", "front-back", "foot-head")]
    order = np.lexsort((*(sense * index_sums[:, axis] for axis, sense in axes), -counts))
    ids = np.zeros(len(counts) + 1, dtype=np.int32)
    ids[order + 1] = np.arange(1, len(counts) + 1)
    return ids
