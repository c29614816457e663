"""All scores of one case."""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.components import find_components
from nnunet_cascade.evaluation.disjoint_boxes import separate_parts
from nnunet_cascade.evaluation.lesions import LesionShares, count_components
from nnunet_cascade.evaluation.mask_pair import EmptyMasks, shared_grid
from nnunet_cascade.evaluation.overlap import dice_of_counts
from nnunet_cascade.evaluation.surface import measure_surfaces
from nnunet_cascade.geometry import MM3_PER_ML, Mask, Spacing

DERIVED = ("lesion_recall", "lesion_precision", "lesion_f1")
"""Figures that follow from the fields of a `CaseScore`, and stand next to them in files."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseScore(LesionShares):
    """How well one prediction matches its truth; docs/evaluation.md says what each figure means.

    Attributes:
        case: The case's name.
        empty: Which mask is empty; it decides what Dice, distances and NSD mean.
        dice: 0 … 1, 0 if one mask is empty, NaN if both are.
        hd95_mm: Like all four distances the image diagonal where one mask is empty, NaN if both are.
        hd95_pooled_mm: Both directions pooled before the percentile: for comparison only.
        hd_mm: Largest surface distance.
        assd_mm: Mean surface distance.
        nsd_1mm: Normalized surface Dice ("Boundary Dice") at 1 mm: 0 … 1, like Dice where masks are empty.
        nsd_2mm: At 2 mm.
        nsd_3mm: At 3 mm.
        lesions: 26-connected components of the truth.
        lesions_found: Those that the prediction overlaps.
        predicted_components: 26-connected components of the prediction.
        predicted_components_true: Those with a voxel of truth.
        false_positive_components: Those without.
        false_positive_ml: The volume of these.
        reference_ml: Volume of the truth.
        predicted_ml: Volume of the prediction.
        volume_error_ml: Predicted minus true.
        lesion_spread_mm: Largest distance between centroids of lesions; 0 for one, NaN for none.
        predicted_spread_mm: The same of the prediction's components.

    Raises:
        SettingsError: The case has no name, or a value is out of its range or contradicts another.

    Example:
        >>> empty = np.zeros((8, 8, 8), bool)
        >>> nnc.evaluate(empty, empty, spacing_mm=(1, 1, 1)).dice
        nan
    """

    case: str
    empty: EmptyMasks
    dice: float
    hd95_mm: float
    hd95_pooled_mm: float
    hd_mm: float
    assd_mm: float
    nsd_1mm: float
    nsd_2mm: float
    nsd_3mm: float
    lesions: int
    lesions_found: int
    predicted_components: int
    predicted_components_true: int
    false_positive_components: int
    false_positive_ml: float
    reference_ml: float
    predicted_ml: float
    volume_error_ml: float
    lesion_spread_mm: float
    predicted_spread_mm: float

    def __post_init__(self) -> None:
        for holds, expected in self._rules():
            if not holds:
                raise SettingsError(f"found {self}; expected {expected}")

    def record(self) -> dict[str, str | float]:
        """Return every field and every figure of `DERIVED` by name, as columns of a table."""
        return asdict(self) | {name: getattr(self, name) for name in DERIVED}

    def _rules(self) -> Iterator[tuple[bool, str]]:
        overlaps = (self.dice, self.nsd_1mm, self.nsd_2mm, self.nsd_3mm)
        distances_mm = (self.hd95_mm, self.hd95_pooled_mm, self.hd_mm, self.assd_mm)
        undefined = self.empty == "both"
        false = self.predicted_components - self.predicted_components_true
        error_ml = self.predicted_ml - self.reference_ml
        yield bool(self.case), "a name for the case"
        yield (
            all(math.isnan(value) == undefined for value in overlaps + distances_mm),
            "Dice, NSD and distances of NaN just where both masks are empty",
        )
        yield not any(value < 0 or value > 1 for value in overlaps), "Dice and NSD of 0 … 1"
        yield not any(value < 0 for value in distances_mm), "distances of at least 0 mm"
        yield 0 <= self.lesions_found <= self.lesions, "no more lesions found than there are"
        yield 0 <= self.predicted_components_true <= self.predicted_components, "no more true components than predicted"
        yield self.false_positive_components == false, "every predicted component to be true or a false positive"
        yield 0 <= self.false_positive_ml <= self.predicted_ml, "false positives within the predicted volume"
        yield self.reference_ml >= 0, "no negative volume"
        yield math.isclose(self.volume_error_ml, error_ml, abs_tol=1e-6), "a volume error of predicted minus true"
        for spread_mm, components in (
            (self.lesion_spread_mm, self.lesions),
            (self.predicted_spread_mm, self.predicted_components),
        ):
            yield math.isnan(spread_mm) == (components == 0), "a spread of NaN just where there is no component"
            yield not spread_mm < 0, "a spread of at least 0 mm"


def score_case(case: str, truth: Mask, prediction: Mask, spacing_mm: Spacing) -> CaseScore:
    """Score one prediction against its truth: surfaces and components are measured once, every figure derived.

    Args:
        case: The case's name, not empty.
        truth: (Z, Y, X), on the CT's own grid; may be empty.
        prediction: (Z, Y, X), same grid; may be empty.
        spacing_mm: Voxel size along (Z, Y, X).

    Returns:
        The scores; `mask_pair.EMPTY_POLICY` says what they are where a mask is empty.

    Raises:
        SettingsError: A mask is not a boolean volume, a voxel size is not positive, or the case has no name.
        GridMismatchError: The shapes differ.
    """
    grid = shared_grid(truth, prediction, spacing_mm)
    parts = separate_parts(truth, prediction)
    of_truth, of_prediction = find_components(parts)
    counts = count_components(of_truth, of_prediction)
    distances = measure_surfaces(parts, grid)
    voxel_ml = grid.voxel_volume_mm3 / MM3_PER_ML
    true_voxels, predicted_voxels = int(of_truth.voxels.sum()), int(of_prediction.voxels.sum())
    return CaseScore(
        case=case,
        empty=distances.empty,
        dice=dice_of_counts(int(of_truth.shared_voxels.sum()), true_voxels + predicted_voxels),
        hd95_mm=distances.hd95_mm,
        hd95_pooled_mm=distances.hd95_pooled_mm,
        hd_mm=distances.hd_mm,
        assd_mm=distances.assd_mm,
        nsd_1mm=distances.nsd(1.0),
        nsd_2mm=distances.nsd(2.0),
        nsd_3mm=distances.nsd(3.0),
        lesions=counts.lesions,
        lesions_found=counts.found,
        predicted_components=counts.predicted,
        predicted_components_true=counts.predicted_true,
        false_positive_components=counts.false_positive_components,
        false_positive_ml=counts.false_positive_voxels * voxel_ml,
        reference_ml=true_voxels * voxel_ml,
        predicted_ml=predicted_voxels * voxel_ml,
        volume_error_ml=(predicted_voxels - true_voxels) * voxel_ml,
        lesion_spread_mm=of_truth.spread_mm(spacing_mm),
        predicted_spread_mm=of_prediction.spread_mm(spacing_mm),
    )
