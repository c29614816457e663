"""Distance between the surfaces of two masks: measured once, every figure derived from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.disjoint_boxes import MaskPart, separate_parts
from nnunet_cascade.evaluation.mask_pair import EmptyMasks, shared_grid
from nnunet_cascade.geometry import Grid, Mask, Spacing
from nnunet_cascade.morphology import surface

HD95_DEFINITION = (
    "maximum of the two directed 95th percentiles of the distances between surface voxels, "
    "in mm on the truth's own grid"
)
"""Which of the several HD95 in use this is, in words for tables and files."""
HD95_POOLED_DEFINITION = (
    "95th percentile of the distances from both sides taken together, as MedPy's hd95; for comparison with figures "
    "made that way only, for it hides a far false positive behind a large lesion"
)
"""In words for tables and files."""
HD_DEFINITION = (
    "largest distance between surface voxels, from either side, in mm; a single voxel decides it, and some published "
    "code reports it as HD95"
)
"""In words for tables and files."""
ASSD_DEFINITION = (
    "mean of the distances from both sides taken together, in mm, each surface voxel counting once, as MONAI's "
    "(MedPy averages the two directed means; surface-distance weighs by area and gives them apart)"
)
"""In words for tables and files."""
NSD_DEFINITION = (
    "normalized surface Dice: share of the surface voxels of both masks that lie within the tolerance of the other's "
    "surface, each counting once, as MONAI's without sub-voxels (surface-distance, and MONAI with sub-voxels, weigh by "
    'area on the voxels\' corners and give more); what papers call "Boundary Dice" is taken to be this surface Dice '
    "of Nikolov et al., not Boundary IoU"
)
"""In words for tables and files."""
_PERCENTILE = 95.0
_DENSE = 0.1
# Voxel sizes such as 0.1 mm add up to 3.0000000000000004: a tolerance of 3 mm means them, too.
_ROUNDING_MM = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfaceDistances:
    """How far every surface voxel of one mask is from the nearest of the other.

    Attributes:
        to_prediction_mm: (n,), ascending, from each surface voxel of the truth; empty if a mask is.
        to_truth_mm: (m,), ascending, from each surface voxel of the prediction; empty if a mask is.
        empty: Which mask has no voxel.
        diagonal_mm: Of the image, corner to corner: what a distance to nothing counts as.

    Raises:
        SettingsError: Distances are negative, not finite or not ascending, or contradict `empty`.
    """

    to_prediction_mm: NDArray[np.float64]
    to_truth_mm: NDArray[np.float64]
    empty: EmptyMasks
    diagonal_mm: float

    def __post_init__(self) -> None:
        for distances_mm in (self.to_prediction_mm, self.to_truth_mm):
            if (distances_mm.size > 0) != (self.empty == "none"):
                raise SettingsError(f"found {distances_mm.size} distances where the empty mask is: {self.empty}")
            if distances_mm.size and not (
                distances_mm[0] >= 0 and math.isfinite(distances_mm[-1]) and (np.diff(distances_mm) >= 0).all()
            ):
                raise SettingsError("found distances that are negative, not finite or not ascending; sort them first")

    @property
    def hd95_mm(self) -> float:
        """`HD95_DEFINITION`; the diagonal where one mask is empty, NaN if both are."""
        if self.empty != "none":
            return self._penalty_mm
        return float(max(np.percentile(one, _PERCENTILE) for one in (self.to_prediction_mm, self.to_truth_mm)))

    @property
    def hd95_pooled_mm(self) -> float:
        """`HD95_POOLED_DEFINITION`; the diagonal where one mask is empty, NaN if both are."""
        if self.empty != "none":
            return self._penalty_mm
        return float(np.percentile(np.concatenate([self.to_prediction_mm, self.to_truth_mm]), _PERCENTILE))

    @property
    def hd_mm(self) -> float:
        """`HD_DEFINITION`; the diagonal where one mask is empty, NaN if both are."""
        if self.empty != "none":
            return self._penalty_mm
        return float(max(self.to_prediction_mm[-1], self.to_truth_mm[-1]))

    @property
    def assd_mm(self) -> float:
        """`ASSD_DEFINITION`; the diagonal where one mask is empty, NaN if both are."""
        if self.empty != "none":
            return self._penalty_mm
        voxels = self.to_prediction_mm.size + self.to_truth_mm.size
        return float(self.to_prediction_mm.sum() + self.to_truth_mm.sum()) / voxels

    def nsd(self, tolerance_mm: float) -> float:
        """Return the normalized surface Dice, `NSD_DEFINITION`; 0 if one mask is empty, NaN if both are.

        Raises:
            SettingsError: The tolerance is negative or not finite.
        """
        if not (math.isfinite(tolerance_mm) and tolerance_mm >= 0):
            raise SettingsError(f"the tolerance is {tolerance_mm} mm; expected a finite number, at least 0")
        if self.empty != "none":
            return math.nan if self.empty == "both" else 0.0
        both = (self.to_prediction_mm, self.to_truth_mm)
        near = sum(int(np.searchsorted(one, tolerance_mm + _ROUNDING_MM, side="right")) for one in both)
        return near / sum(one.size for one in both)

    @property
    def _penalty_mm(self) -> float:
        return math.nan if self.empty == "both" else self.diagonal_mm


def measure_surfaces(truth: Mask, prediction: Mask, *, spacing_mm: Spacing) -> SurfaceDistances:
    """Measure how far the surfaces of two masks are apart.

    Surface voxels are those of `morphology.surface`; distances run between their
    centers and are exact. The surface of a body lies outside the centers of its
    surface voxels, by less than the largest voxel size; and every point of it has
    such a center within one voxel diagonal (bodies at least that thick). So a
    distance between bodies is met to −2 · the largest voxel size … + the largest
    voxel size + the diagonal.

    Args:
        truth: (Z, Y, X).
        prediction: (Z, Y, X), same grid.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        Sorted distances from both sides; none if a mask is empty.

    Raises:
        SettingsError: A mask is not a boolean volume, or a voxel size is not positive.
        GridMismatchError: The shapes differ.

    Source:
        Maier-Hein et al., Metrics reloaded, Nat Methods 21, 2024,
        https://doi.org/10.1038/s41592-023-02151-z; surface Dice: Nikolov et al., J Med
        Internet Res 23(7), 2021, https://doi.org/10.2196/26151.
    """
    return measure_parts(separate_parts(truth, prediction), shared_grid(truth, prediction, spacing_mm))


def measure_parts(parts: Sequence[MaskPart], grid: Grid) -> SurfaceDistances:
    """Measure as `measure_surfaces` does, from parts that are cut already and the grid of the whole image."""
    first, second = _surface_places(parts, "truth"), _surface_places(parts, "prediction")
    empty: EmptyMasks = "none"
    if not (len(first) and len(second)):
        empty = "both" if len(first) == len(second) else "prediction" if len(first) else "truth"
        first = second = first[:0]
    return SurfaceDistances(
        to_prediction_mm=_sorted_distances_mm(first, second, grid.spacing_mm),
        to_truth_mm=_sorted_distances_mm(second, first, grid.spacing_mm),
        empty=empty,
        diagonal_mm=diagonal_mm(grid),
    )


def hd95_mm(truth: Mask, prediction: Mask, *, spacing_mm: Spacing) -> float:
    """Measure the 95th percentile Hausdorff distance.

    From every surface voxel of one mask, take the distance to the nearest surface
    voxel of the other; take the 95th percentile (linear between ranks), once from
    each side; the larger of the two counts. Pooling both sides before the
    percentile, as some packages do, hides a far false positive behind a large
    lesion; `SurfaceDistances.hd95_pooled_mm` does it for comparison.

    Args:
        truth: (Z, Y, X).
        prediction: (Z, Y, X), same grid.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        mm, 0 for equal masks. NaN if both masks are empty; the diagonal of the
        image, corner to corner, where one is.

    Raises:
        SettingsError: A mask is not a boolean volume, or a voxel size is not positive.
        GridMismatchError: The shapes differ.

    Source:
        As `measure_surfaces`; equal to MONAI's `compute_hausdorff_distance(percentile=95)`.
    """
    return measure_surfaces(truth, prediction, spacing_mm=spacing_mm).hd95_mm


def diagonal_mm(grid: Grid) -> float:
    """Return the distance between opposite corners of an image: no two of its voxels are as far apart."""
    return math.hypot(*(count * size for count, size in zip(grid.shape, grid.spacing_mm, strict=True)))


def _surface_places(parts: Sequence[MaskPart], which: Literal["truth", "prediction"]) -> NDArray[np.int32]:
    """Return the voxel indices (n, 3) of one mask's surface, (Z, Y, X) in the image."""
    found = [np.zeros((0, 3), dtype=np.int32)]
    for part in parts:
        marked = surface(part.truth if which == "truth" else part.prediction)
        places = np.stack(np.unravel_index(np.flatnonzero(marked), marked.shape), axis=1)
        found.append((places + np.array(part.start)).astype(np.int32))
    return np.concatenate(found)


def _sorted_distances_mm(start: NDArray[np.int32], end: NDArray[np.int32], spacing_mm: Spacing) -> NDArray[np.float64]:
    """Return the distance from each place (n, 3) of `start` to the nearest of `end`, ascending; both or none are empty.

    However the nearest is found, the distance follows from the two indices in one way.
    """
    if not len(end):
        return np.zeros(0)
    low = np.minimum(start.min(axis=0), end.min(axis=0))
    shape = np.maximum(start.max(axis=0), end.max(axis=0)) + 1 - low
    find = _nearest_by_transform if len(start) > _DENSE * math.prod(shape.tolist()) else _nearest_by_tree
    steps_mm = (find(start - low, end - low, spacing_mm) - (start - low)) * np.array(spacing_mm)
    return np.sort(np.linalg.norm(steps_mm, axis=1))


def _nearest_by_tree(start: NDArray[np.int32], end: NDArray[np.int32], spacing_mm: Spacing) -> NDArray[np.int32]:
    """Find the nearest place by a tree, at the cost of the surfaces, however large the box around both."""
    # without balancing, the tree is built in half the time and asked as fast
    tree = KDTree(end * np.array(spacing_mm), balanced_tree=False, compact_nodes=False)
    return end[tree.query(start * np.array(spacing_mm))[1]]


def _nearest_by_transform(start: NDArray[np.int32], end: NDArray[np.int32], spacing_mm: Spacing) -> NDArray[np.int32]:
    """Find the nearest place by a distance transform, at the cost of the box: for noise, whose surface fills it."""
    away = np.ones(np.maximum(start.max(axis=0), end.max(axis=0)) + 1, dtype=bool)
    away[tuple(end.T)] = False
    nearest = ndimage.distance_transform_edt(away, sampling=spacing_mm, return_distances=False, return_indices=True)
    return np.asarray(nearest)[(slice(None), *start.T)].T
