"""What of the air in the body is lung, and what is bowel gas."""

from __future__ import annotations

import math
from typing import cast

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.geometry import MM3_PER_ML, Image, Mask, Spacing
from nnunet_cascade.postprocessing.lungs.regions import LungRegion, chosen, distances_mm, grow, regions_of
from nnunet_cascade.postprocessing.lungs.tissue import soft_around

AIR_HU = -350.0
_GAS_HU = -940.0
_LIGHTEST_GAS_HU = -840.0
_DARKEST_LUNG_PERCENT = 5.0
_GAS_ML = 0.3
_GAS_RIM_MM = 3.0
_LUNG_MEDIAN_HU = (-975.0, -500.0)
_LUNG_HU = (-950.0, -600.0)
_LUNG_SHARE = 1 / 3
_LUNG_INNER_RADIUS_MM = 6.0
_MAIN_SHARE = 0.1
FRAGMENT_ML = 8.0


def bowel_gas(hu: Image, body: Mask, tract: Mask, spacing_mm: Spacing) -> Mask:
    """Mark gas in bowel and stomach: very dark cores amid soft tissue, below the middle of the lungs.

    Very dark is what is darker than the lungs themselves, above their middle, where
    there is no bowel. Higher up such cores are bullae and cavities, which belong to the lung.

    Args:
        hu: (Z, Y, X), upright.
        body: (Z, Y, X), the body with all it encloses.
        tract: (Z, Y, X), the airway.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), the cores and their rims; often empty.
    """
    labels, air = regions_of((hu < AIR_HU) & body & ~tract)
    # a lone dark voxel is noise, and of such voxels a whole lung may hang together
    smooth = cast("Image", ndimage.uniform_filter(hu, 3))
    lungs = [region for region in air if looks_like_lung(hu, labels, region, spacing_mm)]
    limit_hu = _gas_limit_hu(smooth, labels, lungs)
    labels, cores = regions_of((smooth < limit_hu) & body & ~tract)
    smallest = voxels_in(_GAS_ML, spacing_mm)
    low = [core for core in cores if core.voxels >= smallest and core.centroid[0] < _middle_height(air)]
    gas = chosen(labels, [core for core in low if soft_around(hu, labels, core)])
    return grow(gas, _GAS_RIM_MM + max(spacing_mm[1:]), spacing_mm)


def _gas_limit_hu(smooth: Image, labels: NDArray[np.uint32], lungs: list[LungRegion]) -> float:
    """Return what nearly all lung above its middle is lighter than; emphysema and shifted scales lower it."""
    if not lungs:
        return _GAS_HU
    start, stop = lungs[0].box.start, lungs[0].box.stop
    upper = (slice((start[0] + stop[0]) // 2, stop[0]), *lungs[0].box.slices[1:])
    values = smooth[upper][labels[upper] == lungs[0].label]
    if values.size == 0:
        return _GAS_HU
    return min(float(np.percentile(values, _DARKEST_LUNG_PERCENT)), _LIGHTEST_GAS_HU)


def lung_air(hu: Image, air: Mask, spacing_mm: Spacing) -> Mask:
    """Mark the air that is lung.

    Main regions are all that look like lung and have a tenth of the largest. Smaller
    ones count from 8 ml up, unless they lie low and amid soft tissue, as bowel does.

    Args:
        hu: (Z, Y, X), upright.
        air: (Z, Y, X), where lung may be: not airway, gas, or the outside.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        (Z, Y, X), a subset of `air`; empty if nothing looks like lung.
    """
    labels, regions = regions_of((hu < AIR_HU) & air)
    large = [region for region in regions if region.voxels >= voxels_in(FRAGMENT_ML, spacing_mm)]
    lungs = [region for region in large if looks_like_lung(hu, labels, region, spacing_mm)]
    return chosen(labels, [region for region in lungs if _is_main_or_fragment(hu, labels, region, lungs)])


def _is_main_or_fragment(hu: Image, labels: NDArray[np.uint32], region: LungRegion, lungs: list[LungRegion]) -> bool:
    if region.voxels >= _MAIN_SHARE * lungs[0].voxels or region.centroid[0] >= _middle_height(lungs):
        return True
    return not soft_around(hu, labels, region)


def looks_like_lung(hu: Image, labels: NDArray[np.uint32], region: LungRegion, spacing_mm: Spacing) -> bool:
    """Return whether a region of air has the densities of lung and is thick enough, at least 6 mm deep."""
    inside = region.inside(labels)
    values_hu = hu[region.box.slices][inside]
    share = np.mean((values_hu >= _LUNG_HU[0]) & (values_hu <= _LUNG_HU[1]))
    if not (_LUNG_MEDIAN_HU[0] <= np.median(values_hu) <= _LUNG_MEDIAN_HU[1] and share >= _LUNG_SHARE):
        return False
    depths_mm = distances_mm(np.pad(inside, 1), spacing_mm)
    return any(float(layer.max()) >= _LUNG_INNER_RADIUS_MM for layer in depths_mm)


def is_not_room_air(values_hu: NDArray[np.float32]) -> bool:
    """Return whether most voxels of a region are denser than the air of the room."""
    return bool(np.median(values_hu) >= _LUNG_MEDIAN_HU[0])


def _middle_height(regions: list[LungRegion]) -> float:
    """Return the slice index halfway up the largest region; 0 if there is none."""
    return (regions[0].box.start[0] + regions[0].box.stop[0]) / 2 if regions else 0.0


def voxels_in(volume_ml: float, spacing_mm: Spacing) -> float:
    """Return how many voxels make up a volume."""
    return volume_ml * MM3_PER_ML / math.prod(spacing_mm)
