"""Lung that a tight crop leaves open to the edge of the image."""

from __future__ import annotations

import numpy as np
from skimage.morphology import convex_hull_image

from nnunet_cascade.geometry import Image, Mask, Spacing
from nnunet_cascade.postprocessing.lungs.air import AIR_HU, FRAGMENT_ML, is_not_room_air, looks_like_lung, voxels_in
from nnunet_cascade.postprocessing.lungs.regions import chosen, fill_slices, regions_of

_HULL_SHARE = 0.7


def with_open_lung(hu: Image, body: Mask, spacing_mm: Spacing) -> Mask:
    """Add lung to the body that no chest wall closes off because the image ends there.

    Air outside the body counts where at least 70 % of it lies in the convex hull of the body, slice by slice, and most
    of it is denser than the room's; foam and clothes lie around the body. Together with the air in the body that it
    hangs together with it must be as dense and as thick as lung, for where a chest wall comes and goes from slice to
    slice, lung falls into slabs. Vessels and airways amid such lung are added with it.

    Args:
        hu: (Z, Y, X), upright.
        body: (Z, Y, X), the body with all it encloses. Left unchanged.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), holds `body`; the same for an image that holds the whole chest.
    """
    air = hu < AIR_HU
    labels, regions = regions_of(air & ~body)
    large = [region for region in regions if region.voxels >= voxels_in(FRAGMENT_ML, spacing_mm)]
    dense = [region for region in large if is_not_room_air(hu[region.box.slices][region.inside(labels)])]
    if not dense:
        return body
    hull = np.stack([convex_hull_image(part) if part.any() else part for part in body])
    inside = np.bincount(labels[hull], minlength=len(regions) + 1)
    enclosed = [region for region in dense if inside[region.label] >= _HULL_SHARE * region.voxels]
    together, wholes = regions_of((air & body) | chosen(labels, enclosed))
    lungs = [whole for whole in wholes if looks_like_lung(hu, together, whole, spacing_mm)]
    added = chosen(together, lungs) & ~body
    return fill_slices(body | added) if added.any() else body
