"""The 26-connected components of two masks, each measured once."""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nnunet_cascade.evaluation.disjoint_boxes import MaskPart
from nnunet_cascade.geometry import Index, Mask, Spacing
from nnunet_cascade.morphology import component_sizes, label_components


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Components:
    """The 26-connected components of one mask, n of them, in no order that means anything.

    Attributes:
        voxels: (n,), size of each.
        shared_voxels: (n,), those of them that lie in the other mask.
        centroids: (n, 3), voxel index (Z, Y, X) in the image, fractional.
    """

    voxels: NDArray[np.int64]
    shared_voxels: NDArray[np.int64]
    centroids: NDArray[np.float64]

    @property
    def count(self) -> int:
        """Number of components."""
        return self.voxels.size

    def spread_mm(self, spacing_mm: Spacing) -> float:
        """Return the largest distance between two centroids: 0 for one component, NaN for none."""
        return _largest_distance(self.centroids * np.array(spacing_mm)) if self.count else math.nan


def find_components(parts: Iterable[MaskPart]) -> tuple[Components, Components]:
    """Measure the components of the truth and those of the prediction.

    Args:
        parts: As `separate_parts` gives them; none: no components.

    Returns:
        Those of the truth, those of the prediction.
    """
    of_truth, of_prediction = [_NONE], [_NONE]
    for part in parts:
        of_truth.append(_measured(part.truth, part.prediction, part.start))
        of_prediction.append(_measured(part.prediction, part.truth, part.start))
    return _joined(of_truth), _joined(of_prediction)


_NONE = Components(
    voxels=np.zeros(0, dtype=np.int64), shared_voxels=np.zeros(0, dtype=np.int64), centroids=np.zeros((0, 3))
)


def _measured(mask: Mask, other: Mask, start: Index) -> Components:
    labels = label_components(mask)
    voxels, centroids = component_sizes(labels)
    return Components(
        voxels=voxels,
        shared_voxels=np.bincount(labels[other], minlength=voxels.size + 1).astype(np.int64)[1:],
        centroids=centroids + np.array(start),
    )


def _joined(components: list[Components]) -> Components:
    return Components(
        voxels=np.concatenate([each.voxels for each in components]),
        shared_voxels=np.concatenate([each.shared_voxels for each in components]),
        centroids=np.concatenate([each.centroids for each in components]),
    )


def _largest_distance(points: NDArray[np.float64]) -> float:
    """Return the largest distance between two of the points (n, 3), n ≥ 1; memory grows with n, not with its square."""
    reach = np.linalg.norm(points - points.mean(axis=0), axis=1)
    outermost_first = np.argsort(-reach)
    points, reach = points[outermost_first], reach[outermost_first]
    largest = 0.0
    for index in range(len(points) - 1):
        # two points are at most as far apart as both are from the middle, and those to come are nearer to it
        if 2 * reach[index] <= largest:
            break
        largest = max(largest, float(np.linalg.norm(points[index + 1 :] - points[index], axis=1).max()))
    return largest
