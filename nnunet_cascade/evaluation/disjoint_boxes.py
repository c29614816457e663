"""Two masks cut into boxes with nothing marked between them, so that no measure walks through air."""

import math
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.evaluation.mask_pair import require_pair
from nnunet_cascade.geometry import Box, Index, Mask, as_index

_WORTH_CUTTING_VOXELS = 2**15
_ENOUGH_PARTS = 64


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class MaskPart:
    """Both masks inside one box; outside of it, up to one voxel away, neither has a voxel.

    A 26-connected component of the truth, of the prediction or of both together
    lies in one part whole.

    Attributes:
        start: Index (Z, Y, X) of the box's first voxel in the image.
        truth: (Z, Y, X), a view of the image's mask; may be empty.
        prediction: (Z, Y, X), same shape; may be empty if the truth is not.
    """

    start: Index
    truth: Mask
    prediction: Mask


def separate_parts(truth: Mask, prediction: Mask) -> tuple[MaskPart, ...]:
    """Crop two masks to what they mark, a far island apart from the rest where that saves work.

    Args:
        truth: (Z, Y, X).
        prediction: (Z, Y, X), same grid.

    Returns:
        Views that hold every voxel of both masks once; none if both are empty.
        How many there are changes what a measure costs, never what it gives.

    Raises:
        SettingsError: A mask is not a boolean volume.
        GridMismatchError: The shapes differ.
    """
    require_pair(truth, prediction)
    marked = truth | prediction
    if not marked.any():
        return ()
    return tuple(
        MaskPart(start=box.start, truth=truth[box.slices], prediction=prediction[box.slices])
        for box in _boxes_between_gaps(marked)
    )


def _boxes_between_gaps(marked: Mask) -> list[Box]:
    """Cut at empty planes, again and again; lattices with thousands of gaps are left in larger boxes."""
    waiting, done = [Box.around(marked)], list[Box]()
    while waiting:
        box = waiting.pop()
        few = len(waiting) + len(done) < _ENOUGH_PARTS
        pieces = _pieces(marked, box) if few and math.prod(box.shape) > _WORTH_CUTTING_VOXELS else [box]
        (waiting if len(pieces) > 1 else done).extend(pieces)
    return sorted(done, key=lambda box: box.start)


def _pieces(marked: Mask, box: Box) -> list[Box]:
    """Cut a box along the axis with the widest share of empty planes, each piece cropped to what is marked."""
    inside = marked[box.slices]
    filled = [inside.any(axis=tuple(other for other in range(3) if other != axis)) for axis in range(3)]
    axis = min(range(3), key=lambda axis: float(filled[axis].mean()))
    bounds = np.flatnonzero(np.diff(filled[axis].astype(np.int8), prepend=0, append=0))
    if bounds.size == 2:
        return [box]
    pieces: list[Box] = []
    for low, high in zip(bounds[::2], bounds[1::2], strict=True):
        start, stop = list(box.start), list(box.stop)
        start[axis], stop[axis] = box.start[axis] + int(low), box.start[axis] + int(high)
        slab = Box(as_index(start), as_index(stop))
        found = Box.around(marked[slab.slices])
        pieces.append(Box(_moved(found.start, slab.start), _moved(found.stop, slab.start)))
    return pieces


def _moved(index: Index, by: Index) -> Index:
    return as_index(a + b for a, b in zip(index, by, strict=True))
