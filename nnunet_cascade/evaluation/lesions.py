"""Lesions found, lesions missed and islands where there is none."""

import math
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.evaluation.components import Components, find_components
from nnunet_cascade.evaluation.disjoint_boxes import separate_parts
from nnunet_cascade.geometry import Mask


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionCounts:
    """How many lesions one case has, and how the prediction meets them.

    Attributes:
        lesions: 26-connected components of the truth.
        found: Those of them that the prediction overlaps.
        predicted: 26-connected components of the prediction.
        predicted_true: Those of them with a voxel of truth.
        false_positive_voxels: Voxels in the others.
    """

    lesions: int
    found: int
    predicted: int
    predicted_true: int
    false_positive_voxels: int

    @property
    def false_positive_components(self) -> int:
        """26-connected components of the prediction without a voxel of truth."""
        return self.predicted - self.predicted_true


def count_lesions(truth: Mask, prediction: Mask) -> LesionCounts:
    """Count lesions found and islands predicted where there is none.

    A single voxel of overlap is enough: a lesion is found by it, and a component
    that has it is not a false positive. One component may find several lesions.

    Args:
        truth: (Z, Y, X); each 26-connected component is a lesion. May be empty: no lesions.
        prediction: (Z, Y, X), same grid. May be empty: none found.

    Raises:
        SettingsError: A mask is not a boolean volume.
        GridMismatchError: The shapes differ.
    """
    return count_components(*find_components(separate_parts(truth, prediction)))


def count_components(of_truth: Components, of_prediction: Components) -> LesionCounts:
    """Count as `count_lesions` does, from components that are measured already."""
    is_true = of_prediction.shared_voxels > 0
    return LesionCounts(
        lesions=of_truth.count,
        found=int(np.count_nonzero(of_truth.shared_voxels)),
        predicted=of_prediction.count,
        predicted_true=int(np.count_nonzero(is_true)),
        false_positive_voxels=int(of_prediction.voxels[~is_true].sum()),
    )


class LesionShares:
    """What follows from counts of lesions and components, of one case or of many; they lie in the four attributes."""

    __slots__ = ()
    lesions: int
    lesions_found: int
    predicted_components: int
    predicted_components_true: int

    @property
    def lesion_recall(self) -> float:
        """Lesions found of all lesions; NaN without lesions."""
        return _share(self.lesions_found, self.lesions)

    @property
    def lesion_precision(self) -> float:
        """Predicted components with a voxel of truth of all predicted; NaN without any."""
        return _share(self.predicted_components_true, self.predicted_components)

    @property
    def lesion_f1(self) -> float:
        """Harmonic mean of recall and precision: 0 if only one of them is defined, NaN if none is."""
        recall, precision = self.lesion_recall, self.lesion_precision
        if math.isnan(recall) or math.isnan(precision):
            return math.nan if math.isnan(recall) and math.isnan(precision) else 0.0
        return 2 * recall * precision / (recall + precision) if recall + precision else 0.0


def _share(part: int, whole: int) -> float:
    return part / whole if whole else math.nan
