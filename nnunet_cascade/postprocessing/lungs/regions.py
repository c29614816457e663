"""Connected regions and their growth in millimetres, on a coarse upright array."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.geometry import Box, Mask, Spacing
from nnunet_cascade.morphology import component_boxes, component_sizes, label_components

_IN_PLANE = np.array(
    [[[0, 0, 0], [0, 0, 0], [0, 0, 0]], [[0, 1, 0], [1, 1, 1], [0, 1, 0]], [[0, 0, 0], [0, 0, 0], [0, 0, 0]]]
)


@dataclass(frozen=True, slots=True, kw_only=True)
class LungRegion:
    """One connected region of a mask.

    Attributes:
        label: Its value in the label map.
        voxels: Its size.
        box: Smallest block that holds it.
        centroid: Mean voxel index (Z, Y, X).
    """

    label: int
    voxels: int
    box: Box
    centroid: tuple[float, float, float]

    def inside(self, labels: NDArray[np.uint32]) -> Mask:
        """Return it as a mask within its box."""
        return labels[self.box.slices] == self.label


def regions_of(mask: Mask, *, connectivity: Literal[6, 26] = 6) -> tuple[NDArray[np.uint32], list[LungRegion]]:
    """Label a mask and list its regions, largest first; none for an empty mask."""
    labels = label_components(mask, connectivity=connectivity)
    return labels, sorted(_listed(labels), key=lambda region: -region.voxels)


def discs_of(mask: Mask) -> tuple[NDArray[np.uint32], list[LungRegion]]:
    """Label a mask slice by slice: regions that never leave their slice (Z)."""
    labels = np.empty(mask.shape, dtype=np.int32)
    ndimage.label(mask, structure=_IN_PLANE, output=labels)
    found = labels.view(np.uint32)
    return found, list(_listed(found))


def chosen(labels: NDArray[np.uint32], regions: list[LungRegion]) -> Mask:
    """Return the mask of some regions of a label map."""
    table = np.zeros(int(labels.max(initial=0)) + 1, dtype=np.bool_)
    table[[region.label for region in regions]] = True
    return table[labels]


def fill_slices(mask: Mask) -> Mask:
    """Fill what a mask encloses within each slice (Z): what does not reach the slice's edge."""
    labels = np.empty(mask.shape, dtype=np.int32)
    count = int(cast("int", ndimage.label(~mask, structure=_IN_PLANE, output=labels)))
    outside = np.zeros(count + 1, dtype=np.bool_)
    for edge in (labels[:, 0], labels[:, -1], labels[:, :, 0], labels[:, :, -1]):
        outside[np.unique(edge)] = True
    outside[0] = False
    return ~outside[labels]


def grow(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Dilate a mask by a ball, in an array of the same shape.

    An empty mask stays empty.
    """
    grown = np.zeros_like(mask)
    if mask.any():
        z, y, x = mask.shape
        box = Box.around(mask).grown_mm(radius_mm, spacing_mm).clipped((z, y, x))
        grown[box.slices] = distance_mm(~mask[box.slices], spacing_mm) <= radius_mm
    return grown


def close(mask: Mask, radius_mm: float, spacing_mm: Spacing) -> Mask:
    """Close gaps in a mask by a ball; what lies beyond the array never counts as gap."""
    if not mask.any():
        return mask.copy()
    steps = [int(np.ceil(radius_mm / size)) + 1 for size in spacing_mm]
    padded = np.pad(mask, [(step, step) for step in steps])
    closed = distance_mm(grow(padded, radius_mm, spacing_mm), spacing_mm) > radius_mm
    z, y, x = (slice(step, step + size) for step, size in zip(steps, mask.shape, strict=True))
    return closed[z, y, x] | mask


def distance_mm(mask: Mask, spacing_mm: Spacing) -> NDArray[np.float32]:
    """Return the distance of each voxel of a mask to the nearest voxel outside it, 0 outside."""
    found = np.empty(mask.shape, dtype=np.float32)
    for place, layer in enumerate(distances_mm(mask, spacing_mm)):
        found[place] = layer
    return found


def distances_mm(mask: Mask, spacing_mm: Spacing) -> Iterator[NDArray[np.float64]]:
    """Return the same slice by slice, in double precision: SciPy takes four times the memory for all of it at once."""
    nearest: NDArray[np.int32] = cast(
        "Any", ndimage.distance_transform_edt(mask, sampling=spacing_mm, return_distances=False, return_indices=True)
    )
    rows, columns = np.ogrid[: mask.shape[1], : mask.shape[2]]
    for place in range(len(mask)):
        steps = (nearest[0, place] - place, nearest[1, place] - rows, nearest[2, place] - columns)
        z, y, x = (np.square(step * size) for step, size in zip(steps, spacing_mm, strict=True))
        yield np.sqrt(z + y + x)


def _listed(labels: NDArray[np.uint32]) -> Iterator[LungRegion]:
    voxels, centroids = component_sizes(labels)
    measured = zip(voxels.tolist(), component_boxes(labels), centroids.tolist(), strict=True)
    for label, (size, box, (z, y, x)) in enumerate(measured, start=1):
        yield LungRegion(label=label, voxels=size, box=box, centroid=(z, y, x))
