"""All scores of one case."""

import math
from dataclasses import dataclass

import numpy as np

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.lesions import count_lesions
from nnunet_cascade.evaluation.overlap import dice
from nnunet_cascade.evaluation.pairs import EmptyMasks, empty_masks, shared_grid
from nnunet_cascade.evaluation.surface import hd95_mm
from nnunet_cascade.geometry import Mask, Spacing

_MM3_PER_ML = 1000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseScore:
    """How well one prediction matches its truth.

    Attributes:
        case: The case's name.
        empty: Which mask is empty; it decides what Dice and HD95 mean.
        dice: 0 … 1, 0 where one mask is empty, NaN where both are.
        hd95_mm: As `surface.HD95_DEFINITION`; the image diagonal where one mask is empty, NaN where both are.
        lesions: 26-connected components of the truth.
        lesions_found: Those that the prediction overlaps.
        false_positive_components: 26-connected components of the prediction without a voxel of truth.
        false_positive_ml: Their volume.
        reference_ml: Volume of the truth.
        predicted_ml: Volume of the prediction.

    Raises:
        SettingsError: The case has no name, or a value is out of its range or contradicts `empty`.
    """

    case: str
    empty: EmptyMasks
    dice: float
    hd95_mm: float
    lesions: int
    lesions_found: int
    false_positive_components: int
    false_positive_ml: float
    reference_ml: float
    predicted_ml: float

    def __post_init__(self) -> None:
        for holds, expected in (
            (bool(self.case), "a name for the case"),
            (math.isnan(self.dice) == (self.empty == "both"), "a Dice of NaN just where both masks are empty"),
            (math.isnan(self.hd95_mm) == (self.empty == "both"), "an HD95 of NaN just where both masks are empty"),
            (not (self.dice < 0 or self.dice > 1), "a Dice of 0 … 1"),
            (not self.hd95_mm < 0, "an HD95 of at least 0 mm"),
            (0 <= self.lesions_found <= self.lesions, "no more lesions found than there are"),
            (self.false_positive_components >= 0, "no negative count of false positives"),
            (0 <= self.false_positive_ml <= self.predicted_ml, "false positives within the predicted volume"),
            (self.reference_ml >= 0, "no negative volume"),
        ):
            if not holds:
                raise SettingsError(f"found {self}; expected {expected}")


def score_case(
    case: str, truth: Mask, prediction: Mask, spacing_mm: Spacing, *, min_overlap_voxels: int = 1
) -> CaseScore:
    """Score one prediction against its truth.

    Args:
        case: The case's name, not empty.
        truth: (Z, Y, X), on the CT's own grid; may be empty.
        prediction: (Z, Y, X), same grid; may be empty.
        spacing_mm: Voxel size along (Z, Y, X).
        min_overlap_voxels: Voxels of a lesion that must be predicted for it to count as found.

    Returns:
        The scores; `pairs.EMPTY_POLICY` says what they are where a mask is empty.

    Raises:
        SettingsError: A mask is not a boolean volume, a voxel size is not positive,
            `min_overlap_voxels` is below 1, or the case has no name.
        GridMismatchError: The shapes differ.
    """
    voxel_ml = shared_grid(truth, prediction, spacing_mm).voxel_volume_mm3 / _MM3_PER_ML
    counts = count_lesions(truth, prediction, min_overlap_voxels=min_overlap_voxels)
    return CaseScore(
        case=case,
        empty=empty_masks(truth, prediction),
        dice=dice(truth, prediction),
        hd95_mm=hd95_mm(truth, prediction, spacing_mm=spacing_mm),
        lesions=counts.lesions,
        lesions_found=counts.found,
        false_positive_components=counts.false_positive_components,
        false_positive_ml=counts.false_positive_voxels * voxel_ml,
        reference_ml=int(np.count_nonzero(truth)) * voxel_ml,
        predicted_ml=int(np.count_nonzero(prediction)) * voxel_ml,
    )
