"""Distance between the surfaces of two masks: measured once, every figure derived from it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial import KDTree

from nnunet_cascade.evaluation.disjoint_boxes import MaskPart
from nnunet_cascade.evaluation.mask_pair import EmptyMasks
from nnunet_cascade.geometry import Grid, Spacing
from nnunet_cascade.morphology import surface

_PERCENTILE = 95.0
_DENSE = 0.1
# Voxel sizes such as 0.1 mm add up to 3.0000000000000004: a tolerance of 3 mm means them, too.
_ROUNDING_MM = 1e-6


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SurfaceDistances:
    """How far every surface voxel of one mask is from the nearest of the other; `DEFINITIONS` has the figures.

    Where one mask is empty the image diagonal, corner to corner, stands for all distances; NaN if both are.

    Attributes:
        to_prediction_mm: (n,), ascending, from each surface voxel of the truth.
        to_truth_mm: (m,), ascending, from each surface voxel of the prediction.
        empty: Which mask has no voxel.
    """

    to_prediction_mm: NDArray[np.float64]
    to_truth_mm: NDArray[np.float64]
    empty: EmptyMasks

    @property
    def hd95_mm(self) -> float:
        """The larger of the 95th percentiles of both sides."""
        return float(max(np.percentile(one, _PERCENTILE) for one in (self.to_prediction_mm, self.to_truth_mm)))

    @property
    def hd95_pooled_mm(self) -> float:
        """The 95th percentile of both sides together."""
        return float(np.percentile(np.concatenate([self.to_prediction_mm, self.to_truth_mm]), _PERCENTILE))

    @property
    def hd_mm(self) -> float:
        """The largest distance."""
        return float(max(self.to_prediction_mm[-1], self.to_truth_mm[-1]))

    @property
    def assd_mm(self) -> float:
        """The mean of all distances."""
        voxels = self.to_prediction_mm.size + self.to_truth_mm.size
        return float(self.to_prediction_mm.sum() + self.to_truth_mm.sum()) / voxels

    def nsd(self, tolerance_mm: float) -> float:
        """Return the share of distances within a tolerance; 0 if one mask is empty, NaN if both are."""
        if self.empty != "none":
            return math.nan if self.empty == "both" else 0.0
        both = (self.to_prediction_mm, self.to_truth_mm)
        near = sum(int(np.searchsorted(one, tolerance_mm + _ROUNDING_MM, side="right")) for one in both)
        return near / sum(one.size for one in both)


def measure_surfaces(parts: Sequence[MaskPart], grid: Grid) -> SurfaceDistances:
    """Measure how far the surfaces of two masks are apart.

    Surface voxels are those of `morphology.surface`; distances run between their
    centers and are exact. The surface of a body lies outside the centers of its
    surface voxels, by less than the largest voxel size; and every point of it has
    such a center within one voxel diagonal (bodies at least that thick). So a
    distance between bodies is met to −2 · the largest voxel size … + the largest
    voxel size + the diagonal.

    Args:
        parts: As `separate_parts` gives them.
        grid: Of the whole image.

    Source:
        Maier-Hein et al., Metrics reloaded, Nat Methods 21, 2024,
        https://doi.org/10.1038/s41592-023-02151-z; surface Dice: Nikolov et al., J Med
        Internet Res 23(7), 2021, https://doi.org/10.2196/26151.
    """
    first, second = _surface_places(parts, "truth"), _surface_places(parts, "prediction")
    if len(first) and len(second):
        to_prediction_mm = _sorted_distances_mm(first, second, grid.spacing_mm)
        to_truth_mm = _sorted_distances_mm(second, first, grid.spacing_mm)
        return SurfaceDistances(to_prediction_mm=to_prediction_mm, to_truth_mm=to_truth_mm, empty="none")
    if len(first) == len(second):
        undefined = np.array([math.nan])
        return SurfaceDistances(to_prediction_mm=undefined, to_truth_mm=undefined, empty="both")
    diagonal_mm = np.array([math.hypot(*(n * size for n, size in zip(grid.shape, grid.spacing_mm, strict=True)))])
    empty: EmptyMasks = "prediction" if len(first) else "truth"
    return SurfaceDistances(to_prediction_mm=diagonal_mm, to_truth_mm=diagonal_mm, empty=empty)


def _surface_places(parts: Sequence[MaskPart], which: Literal["truth", "prediction"]) -> NDArray[np.int32]:
    """Return the voxel indices (n, 3) of one mask's surface, (Z, Y, X) in the image."""
    found = [np.zeros((0, 3), dtype=np.int32)]
    for part in parts:
        marked = surface(part.truth if which == "truth" else part.prediction)
        places = np.stack(np.unravel_index(np.flatnonzero(marked), marked.shape), axis=1)
        found.append((places + np.array(part.start)).astype(np.int32))
    return np.concatenate(found)


def _sorted_distances_mm(start: NDArray[np.int32], end: NDArray[np.int32], spacing_mm: Spacing) -> NDArray[np.float64]:
    """Return the distance from each place (n, 3) of `start` to the nearest of `end`, ascending.

    However the nearest is found, the distance follows from the two indices in one way.
    """
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
