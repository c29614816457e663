"""Distance between the surfaces of two masks."""

import math

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from nnunet_cascade.evaluation.pairs import cropped_to_union, empty_masks, shared_grid
from nnunet_cascade.geometry import Grid, Mask, Spacing

HD95_DEFINITION = (
    "maximum of the two directed 95th percentiles of the distances between surface voxels, "
    "in mm on the truth's own grid"
)
"""Which of the several HD95 in use this is, in words for tables and files."""
_PERCENTILE = 95.0


def hd95_mm(truth: Mask, prediction: Mask, *, spacing_mm: Spacing) -> float:
    """Measure the 95th percentile Hausdorff distance.

    From every surface voxel of one mask, take the distance to the nearest surface
    voxel of the other; take the 95th percentile (linear between ranks), once from
    each side; the larger of the two counts. Pooling both sides before the
    percentile, as some packages do, hides a far false positive behind a large
    lesion and is not done here.

    Args:
        truth: (Z, Y, X).
        prediction: (Z, Y, X), same grid.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        mm, 0 for equal masks. NaN where both masks are empty; the diagonal of the
        image, corner to corner, where one is.

    Raises:
        SettingsError: A mask is not a boolean volume, or a voxel size is not positive.
        GridMismatchError: The shapes differ.

    Source:
        Maier-Hein et al., Metrics reloaded, Nat Methods 21, 2024,
        https://doi.org/10.1038/s41592-023-02151-z; equal to MONAI's
        `compute_hausdorff_distance(percentile=95)`.
    """
    grid = shared_grid(truth, prediction, spacing_mm)
    empty = empty_masks(truth, prediction)
    if empty != "none":
        return math.nan if empty == "both" else diagonal_mm(grid)
    first, second = (surface_voxels(mask) for mask in cropped_to_union(truth, prediction))
    there = np.percentile(_distances_mm(first, second, spacing_mm), _PERCENTILE)
    back = np.percentile(_distances_mm(second, first, spacing_mm), _PERCENTILE)
    return float(max(there, back))


def surface_voxels(mask: Mask) -> Mask:
    """Keep the voxels of a mask that have one of their six face neighbours outside it.

    What lies beyond the array counts as outside.

    Args:
        mask: (Z, Y, X). Left unchanged.

    Returns:
        (Z, Y, X), a subset of `mask`, empty only where `mask` is.
    """
    return mask & ~ndimage.binary_erosion(mask)


def diagonal_mm(grid: Grid) -> float:
    """Give the distance between opposite corners of an image: no two of its voxels are as far apart."""
    return math.hypot(*(count * size for count, size in zip(grid.shape, grid.spacing_mm, strict=True)))


def _distances_mm(start: Mask, end: Mask, spacing_mm: Spacing) -> NDArray[np.float64]:
    """Give the distance from each voxel of `start` to the nearest of `end`; neither is empty."""
    return np.asarray(ndimage.distance_transform_edt(~end, sampling=spacing_mm), dtype=np.float64)[start]
