"""The body, and whether soft tissue surrounds a region of air."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.geometry import Image, Mask, Spacing
from nnunet_cascade.postprocessing.lungs.regions import LungRegion, chosen, fill_slices, regions_of

_TISSUE_HU = -300.0
_OPENING_BELOW_MM = 2.6
_SOFT_SHARE = 0.6


def inside_body(hu: Image, spacing_mm: Spacing) -> Mask:
    """Mark the body with all it encloses: the largest region of tissue, filled slice by slice.

    An opening cuts table and clothes off; where pixels are large it would break a thin chest wall, and is left out.

    Args:
        hu: (Z, Y, X), upright.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), empty if there is no tissue.
    """
    tissue = hu > _TISSUE_HU
    if max(spacing_mm[1:]) < _OPENING_BELOW_MM:
        tissue = np.asarray(ndimage.binary_opening(tissue, structure=np.ones((1, 3, 3))), dtype=np.bool_)
    labels, regions = regions_of(tissue)
    return fill_slices(chosen(labels, regions[:1]))


def soft_around(hu: Image, labels: NDArray[np.uint32], region: LungRegion) -> bool:
    """Return whether most of a region's surroundings, past one voxel of partial volume, are soft tissue."""
    z, y, x = hu.shape
    box = region.box.grown((2, 2, 2)).clipped((z, y, x))
    inside = labels[box.slices] == region.label
    rings = (ndimage.binary_dilation(inside, np.ones((3, 3, 3)), iterations=steps) for steps in (1, 2))
    inner, outer = (np.asarray(ring, dtype=np.bool_) for ring in rings)
    shell = outer & ~inner
    return bool(shell.any()) and float(np.mean(hu[box.slices][shell] > _TISSUE_HU)) >= _SOFT_SHARE
