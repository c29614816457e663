"""The trachea and the main bronchi, which are air but not lung."""

from __future__ import annotations

import numpy as np

from nnunet_cascade.geometry import Box, Image, Mask, Spacing
from nnunet_cascade.postprocessing.lungs.regions import LungRegion, chosen, discs_of, grow, regions_of
from nnunet_cascade.postprocessing.lungs.tissue import soft_around

_DARK_HU = -800.0
_DISC_MM2 = (40.0, 900.0)
_DISC_FILL = 0.5
_DISC_ASPECT = 2.5
_CHAIN_MM = 25.0
_MIDDLE = (0.25, 0.75)
_GROWTH_HU = (-950.0, -925.0, -900.0, -875.0, -850.0)
_LEAP = 2.0
_WALL_MM = 2.0


def airway(hu: Image, body: Mask, spacing_mm: Spacing) -> Mask:
    """Mark the trachea and the main bronchi with their walls, 2 mm or one voxel thick.

    The trachea is a chain of compact dark discs, slice upon slice, amid soft tissue.
    From there the threshold rises while the volume does not leap into the lungs.

    Args:
        hu: (Z, Y, X), upright.
        body: (Z, Y, X), the body with all it encloses, not empty.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), empty if no trachea is found.
    """
    seed = _trachea(hu, body, spacing_mm)
    wall_mm = max(_WALL_MM, *spacing_mm[1:])
    return grow(_grown(seed, hu, body), wall_mm, spacing_mm) if seed.any() else seed


def _trachea(hu: Image, body: Mask, spacing_mm: Spacing) -> Mask:
    labels, discs = discs_of((hu < _DARK_HU) & body)
    compact = chosen(labels, [disc for disc in discs if _is_compact(disc, spacing_mm)])
    chains, regions = regions_of(compact, connectivity=26)
    box = Box.around(body)
    low, high = (box.start[2] + share * box.shape[2] for share in _MIDDLE)
    long = [region for region in regions if region.box.shape[0] * spacing_mm[0] >= _CHAIN_MM]
    between = [region for region in long if low <= region.centroid[2] <= high]
    return chosen(chains, [region for region in between if soft_around(hu, chains, region)])


def _is_compact(disc: LungRegion, spacing_mm: Spacing) -> bool:
    area_mm2 = disc.voxels * spacing_mm[1] * spacing_mm[2]
    height_mm, width_mm = disc.box.shape[1] * spacing_mm[1], disc.box.shape[2] * spacing_mm[2]
    slim = max(height_mm, width_mm) > _DISC_ASPECT * min(height_mm, width_mm)
    return _DISC_MM2[0] <= area_mm2 <= _DISC_MM2[1] and area_mm2 >= _DISC_FILL * height_mm * width_mm and not slim


def _grown(seed: Mask, hu: Image, body: Mask) -> Mask:
    grown = seed
    for limit_hu in _GROWTH_HU:
        labels, regions = regions_of(((hu < limit_hu) & body) | seed)
        touched = set(np.unique(labels[seed]).tolist())
        step = chosen(labels, [region for region in regions if region.label in touched])
        if np.count_nonzero(step) > _LEAP * np.count_nonzero(grown):
            break
        grown = step
    return grown
