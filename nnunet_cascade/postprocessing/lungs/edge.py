"""Lung that a tight crop leaves open to the edge of the image."""

from __future__ import annotations

import numpy as np
from skimage.morphology import convex_hull_image

from nnunet_cascade.geometry import Image, Mask, Spacing
from nnunet_cascade.postprocessing.lungs.air import AIR_HU, FRAGMENT_ML, looks_like_lung, voxels_in
from nnunet_cascade.postprocessing.lungs.regions import chosen, regions_of

_HULL_SHARE = 0.7


def open_lung(hu: Image, body: Mask, spacing_mm: Spacing) -> Mask:
    """Mark lung that no chest wall closes off because the image ends there.

    Air outside the body counts where it looks like lung and at least 70 % of it lies
    in the convex hull of the body, slice by slice; foam and clothes lie around it.

    Args:
        hu: (Z, Y, X), upright.
        body: (Z, Y, X), the body with all it encloses.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), outside `body`; empty for an image that holds the whole chest.
    """
    labels, regions = regions_of((hu < AIR_HU) & ~body)
    large = [region for region in regions if region.voxels >= voxels_in(FRAGMENT_ML, spacing_mm)]
    lungs = [region for region in large if looks_like_lung(hu, labels, region, spacing_mm)]
    if not lungs:
        return np.zeros_like(body)
    hull = np.stack([convex_hull_image(part) if part.any() else part for part in body])
    inside = np.bincount(labels[hull], minlength=len(regions) + 1)
    return chosen(labels, [region for region in lungs if inside[region.label] >= _HULL_SHARE * region.voxels])
