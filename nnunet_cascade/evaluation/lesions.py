"""Lesions found, lesions missed and islands where there is none."""

import math
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.components import Components, find_components
from nnunet_cascade.evaluation.disjoint_boxes import separate_parts
from nnunet_cascade.geometry import Mask

LESION_DEFINITION = (
    "lesions are 26-connected components of the truth, found where the prediction has at least the stated number of "
    "their voxels (1 unless said); a 26-connected component of the prediction without a voxel of truth is a false "
    "positive; recall is found lesions of all, precision true components of all predicted, F1 their harmonic mean "
    "(one component may find several lesions; panoptica and nnDetection match one to one by IoU, and differ)"
)
"""What counts as a lesion, as found and as false, in words for tables and files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LesionCounts:
    """How many lesions one case has, and how the prediction meets them.

    Attributes:
        lesions: 26-connected components of the truth.
        found: Those of them that the prediction overlaps.
        predicted: 26-connected components of the prediction.
        predicted_true: Those of them with a voxel of truth.
        false_positive_voxels: Voxels in the others.

    Raises:
        SettingsError: A count is negative, or more lesions are found than there are.
    """

    lesions: int
    found: int
    predicted: int
    predicted_true: int
    false_positive_voxels: int

    def __post_init__(self) -> None:
        if not 0 <= self.found <= self.lesions:
            raise SettingsError(f"found {self.found} of {self.lesions} lesions; expected 0 up to all of them")
        if not 0 <= self.predicted_true <= self.predicted:
            raise SettingsError(
                f"found {self.predicted_true} true components of {self.predicted}; expected 0 up to all of them"
            )
        if not self.false_positive_components <= self.false_positive_voxels:
            raise SettingsError(
                f"found {self.false_positive_components} false positive components of "
                f"{self.false_positive_voxels} voxels together; expected at least one voxel each"
            )

    @property
    def false_positive_components(self) -> int:
        """26-connected components of the prediction without a voxel of truth."""
        return self.predicted - self.predicted_true


def count_lesions(truth: Mask, prediction: Mask, *, min_overlap_voxels: int = 1) -> LesionCounts:
    """Count lesions found and islands predicted where there is none.

    One predicted component may find several lesions. A component that touches
    truth with a single voxel is not a false positive, whatever `min_overlap_voxels`.

    Args:
        truth: (Z, Y, X); each 26-connected component is a lesion. May be empty: no lesions.
        prediction: (Z, Y, X), same grid. May be empty: none found.
        min_overlap_voxels: Voxels of a lesion that must be predicted for it to count as found.

    Returns:
        The counts.

    Raises:
        SettingsError: A mask is not a boolean volume, or `min_overlap_voxels` is below 1.
        GridMismatchError: The shapes differ.
    """
    return count_components(*find_components(separate_parts(truth, prediction)), min_overlap_voxels=min_overlap_voxels)


def count_components(of_truth: Components, of_prediction: Components, *, min_overlap_voxels: int = 1) -> LesionCounts:
    """Count as `count_lesions` does, from components that are measured already.

    Raises:
        SettingsError: `min_overlap_voxels` is below 1.
    """
    if min_overlap_voxels < 1:
        raise SettingsError(f"min_overlap_voxels is {min_overlap_voxels}; a lesion is found by at least 1 voxel")
    is_true = of_prediction.shared_voxels > 0
    return LesionCounts(
        lesions=of_truth.count,
        found=int(np.count_nonzero(of_truth.shared_voxels >= min_overlap_voxels)),
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
