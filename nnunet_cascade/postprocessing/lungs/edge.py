"""Lung that a tight crop leaves open to the edge of the image."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from skimage.morphology import convex_hull_image

from nnunet_cascade.geometry import Image, Mask, Spacing
from nnunet_cascade.postprocessing.lungs.air import AIR_HU, FRAGMENT_ML, has_lung_densities, is_deep, voxels_in
from nnunet_cascade.postprocessing.lungs.regions import Region, chosen, regions_of

_HULL_SHARE = 0.7


def open_lung(hu: Image, body: Mask, spacing_mm: Spacing) -> Mask:
    """Mark lung that no chest wall closes off because the image ends there.

    Air outside the body counts where it is as dense as lung and at least 70 % of it lies
    in the convex hull of the body, slice by slice; foam and clothes lie around it. It
    must be as thick as lung together with the air in the body, for where a chest
    wall comes and goes from slice to slice, lung falls into slabs.

    Args:
        hu: (Z, Y, X), upright.
        body: (Z, Y, X), the body with all it encloses.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), outside `body`; empty for an image that holds the whole chest.
    """
    air = hu < AIR_HU
    labels, regions = regions_of(air & ~body)
    large = [region for region in regions if region.voxels >= voxels_in(FRAGMENT_ML, spacing_mm)]
    dense = [region for region in large if has_lung_densities(_values(hu, labels, region))]
    if not dense:
        return np.zeros_like(body)
    hull = np.stack([convex_hull_image(part) if part.any() else part for part in body])
    inside = np.bincount(labels[hull], minlength=len(regions) + 1)
    enclosed = [region for region in dense if inside[region.label] >= _HULL_SHARE * region.voxels]
    together, wholes = regions_of((air & body) | chosen(labels, enclosed))
    deep = [whole for whole in wholes if is_deep(together[whole.box.slices] == whole.label, spacing_mm)]
    return chosen(together, deep) & ~body


def _values(hu: Image, labels: NDArray[np.uint32], region: Region) -> NDArray[np.float32]:
    return hu[region.box.slices][labels[region.box.slices] == region.label]
