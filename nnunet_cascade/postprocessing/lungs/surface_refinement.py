"""From coarse labels to the CT's own voxels."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.geometry import Mask
from nnunet_cascade.images import Volume
from nnunet_cascade.postprocessing.lungs.air import AIR_HU
from nnunet_cascade.postprocessing.lungs.upright import Upright

_CERTAIN = np.uint8(16)
_FACES = ndimage.generate_binary_structure(3, 1)


def refine(labels: NDArray[np.uint8], air: Mask, allowed: Mask, upright: Upright, ct: Volume) -> NDArray[np.uint8]:
    """Return coarse labels on the CT's own grid, with a surface that follows its voxels.

    In the coarse voxels on either side of the surface the CT itself says what is air; else the mask would depend on
    where the coarse grid happens to begin. What the lungs were closed over has no such surface and stays as it is.

    Args:
        labels: (Z, Y, X), coarse and upright, 1 right, 2 left.
        air: Where `labels` is air.
        allowed: Where lung may be.
        upright: How the coarse array relates to the CT.
        ct: In Hounsfield units.

    Returns:
        (Z, Y, X), uint8, on the CT's grid.
    """
    if max(upright.factors) == 1:
        return upright.fine(labels)
    lungs = labels > 0
    inner = np.asarray(ndimage.binary_erosion(lungs, _FACES, border_value=1), dtype=np.bool_)
    around = np.asarray(ndimage.grey_dilation(labels, footprint=_FACES), dtype=np.uint8)
    certain = inner | (lungs & ~air)
    possible = np.where(lungs, labels, around * allowed)
    marked = upright.fine(np.where(certain, possible + _CERTAIN, possible))
    for part, hu in zip(marked, ct.array, strict=True):  # slice by slice: a whole CT has a hundred million voxels
        sure = part >= _CERTAIN
        part[~sure & (hu >= AIR_HU)] = 0
        part[sure] -= _CERTAIN
    return marked
