"""What a method scores over many cases, as numbers and as a table."""

import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from statistics import fmean, median

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.case import CaseScore
from nnunet_cascade.evaluation.lesions import LESION_DEFINITION, f1, share
from nnunet_cascade.evaluation.mask_pair import EMPTY_POLICY
from nnunet_cascade.evaluation.surface import ASSD_DEFINITION, HD95_DEFINITION, NSD_DEFINITION

_COLUMNS = (
    "Method",
    "n",
    "Dice, mean (n)",
    "Dice 0",
    "HD95, mean mm (n)",
    "HD95, median mm",
    "ASSD, mean mm",
    "NSD 2 mm",
    "NSD 3 mm",
    "Volume error, mean ml",
    "one mask empty",
    "Lesion recall",
    "precision",
    "F1",
    "False positives",
    "per case",
)
_DERIVED = ("defined_cases", "lesion_recall", "lesion_precision", "lesion_f1", "false_positives_per_case")


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSummary:
    """What one method scores over all its cases.

    Means and the median are over the defined cases and NaN if there is none,
    except those of volume errors, which every case has.

    Attributes:
        method: The method's name.
        cases: All cases, at least one.
        undefined_cases: Those with both masks empty; they have no Dice, no NSD and no distances.
        one_empty_cases: Those with one mask empty; their Dice is 0 and their HD95 the image diagonal.
        zero_dice_cases: Those with a Dice of 0, one mask empty or not.
        dice_mean: Mean Dice.
        hd95_mean_mm: Mean HD95.
        hd95_median_mm: Median HD95.
        hd95_pooled_mean_mm: Mean of the HD95 that pools both directions: for comparison only.
        hd_mean_mm: Mean of the largest surface distances.
        assd_mean_mm: Mean of the mean surface distances.
        nsd_1mm_mean: Mean normalized surface Dice at 1 mm.
        nsd_2mm_mean: At 2 mm.
        nsd_3mm_mean: At 3 mm.
        volume_error_mean_ml: Mean of predicted minus true volume, over all cases.
        volume_error_mean_absolute_ml: Mean of its size, over all cases.
        lesions: In the truth of all cases.
        lesions_found: Those that a prediction overlaps.
        predicted_components: In the predictions of all cases.
        predicted_components_true: Those with a voxel of truth.
        false_positive_components: Those without.
        false_positive_ml: The volume of these.

    Raises:
        SettingsError: There is no case, or a count exceeds what it is a part of.
    """

    method: str
    cases: int
    undefined_cases: int
    one_empty_cases: int
    zero_dice_cases: int
    dice_mean: float
    hd95_mean_mm: float
    hd95_median_mm: float
    hd95_pooled_mean_mm: float
    hd_mean_mm: float
    assd_mean_mm: float
    nsd_1mm_mean: float
    nsd_2mm_mean: float
    nsd_3mm_mean: float
    volume_error_mean_ml: float
    volume_error_mean_absolute_ml: float
    lesions: int
    lesions_found: int
    predicted_components: int
    predicted_components_true: int
    false_positive_components: int
    false_positive_ml: float

    def __post_init__(self) -> None:
        if self.cases < 1:
            raise SettingsError(f"{self.method}: found no case; a summary needs at least one")
        parts = (self.undefined_cases, self.one_empty_cases, self.lesions_found, self.predicted_components_true)
        if min(parts) < 0 or self.undefined_cases + self.one_empty_cases > self.cases:
            raise SettingsError(f"found {self}; expected counts of parts of {self.cases} cases")
        if not self.one_empty_cases <= self.zero_dice_cases <= self.defined_cases:
            raise SettingsError(
                f"{self.method}: found {self.zero_dice_cases} cases of Dice 0; expected {self.one_empty_cases} with "
                f"one mask empty up to all {self.defined_cases} that are defined"
            )
        if self.lesions_found > self.lesions:
            raise SettingsError(f"{self.method}: {self.lesions_found} of {self.lesions} lesions found; count again")
        if self.predicted_components_true + self.false_positive_components != self.predicted_components:
            raise SettingsError(
                f"{self.method}: {self.predicted_components_true} true and {self.false_positive_components} false "
                f"components of {self.predicted_components}; count again"
            )

    @property
    def defined_cases(self) -> int:
        """Cases with a Dice and an HD95: the n of their means."""
        return self.cases - self.undefined_cases

    @property
    def lesion_recall(self) -> float:
        """Lesions found of all lesions, each counting once whatever its case; NaN without lesions."""
        return share(self.lesions_found, self.lesions)

    @property
    def lesion_precision(self) -> float:
        """True components of all predicted, each counting once whatever its case; NaN without any."""
        return share(self.predicted_components_true, self.predicted_components)

    @property
    def lesion_f1(self) -> float:
        """Harmonic mean of recall and precision over all cases; 0 if one is undefined, NaN if both are."""
        return f1(self.lesion_recall, self.lesion_precision)

    @property
    def false_positives_per_case(self) -> float:
        """False positive components per case, over all cases."""
        return self.false_positive_components / self.cases

    def record(self) -> dict[str, str | float]:
        """Return every field and what follows from them by name."""
        return asdict(self) | {name: getattr(self, name) for name in _DERIVED}


def summarize(method: str, scores: Sequence[CaseScore]) -> MethodSummary:
    """Summarize the scores of one method.

    Raises:
        SettingsError: There is no score, or a case is scored twice.
    """
    names = [score.case for score in scores]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise SettingsError(f"{method}: cases scored twice: {', '.join(twice)}; give each case once")
    defined = [score for score in scores if score.empty != "both"]
    return MethodSummary(
        method=method,
        cases=len(scores),
        undefined_cases=len(scores) - len(defined),
        one_empty_cases=sum(score.empty in {"truth", "prediction"} for score in scores),
        zero_dice_cases=sum(score.dice == 0 for score in defined),
        dice_mean=_mean([score.dice for score in defined]),
        hd95_mean_mm=_mean([score.hd95_mm for score in defined]),
        hd95_median_mm=median(score.hd95_mm for score in defined) if defined else math.nan,
        hd95_pooled_mean_mm=_mean([score.hd95_pooled_mm for score in defined]),
        hd_mean_mm=_mean([score.hd_mm for score in defined]),
        assd_mean_mm=_mean([score.assd_mm for score in defined]),
        nsd_1mm_mean=_mean([score.nsd_1mm for score in defined]),
        nsd_2mm_mean=_mean([score.nsd_2mm for score in defined]),
        nsd_3mm_mean=_mean([score.nsd_3mm for score in defined]),
        volume_error_mean_ml=_mean([score.volume_error_ml for score in scores]),
        volume_error_mean_absolute_ml=_mean([abs(score.volume_error_ml) for score in scores]),
        lesions=sum(score.lesions for score in scores),
        lesions_found=sum(score.lesions_found for score in scores),
        predicted_components=sum(score.predicted_components for score in scores),
        predicted_components_true=sum(score.predicted_components_true for score in scores),
        false_positive_components=sum(score.false_positive_components for score in scores),
        false_positive_ml=math.fsum(score.false_positive_ml for score in scores),
    )


def format_table(rows: Sequence[MethodSummary]) -> str:
    """Set methods side by side in a Markdown table, its definitions underneath.

    Args:
        rows: In the order of the table. May be empty: a table of headings.

    Returns:
        Lines that end in a newline. What is undefined stands as –.
    """
    head = ["| " + " | ".join(_COLUMNS) + " |", "|---|" + "---:|" * (len(_COLUMNS) - 1)]
    body = ["| " + " | ".join(_cells(row)) + " |" for row in rows]
    notes = [
        "",
        f"HD95: {HD95_DEFINITION}. {EMPTY_POLICY}",
        f"ASSD: {ASSD_DEFINITION}. NSD: {NSD_DEFINITION}.",
        f"Lesions and false positives: {LESION_DEFINITION}.",
    ]
    return "\n".join([*head, *body, *notes]) + "\n"


def _cells(row: MethodSummary) -> tuple[str, ...]:
    return (
        row.method.replace("|", "\\|"),
        str(row.cases),
        f"{_number(row.dice_mean, 3)} ({row.defined_cases})",
        str(row.zero_dice_cases),
        f"{_number(row.hd95_mean_mm, 1)} ({row.defined_cases})",
        _number(row.hd95_median_mm, 1),
        _number(row.assd_mean_mm, 1),
        _number(row.nsd_2mm_mean, 3),
        _number(row.nsd_3mm_mean, 3),
        _number(row.volume_error_mean_ml, 1),
        str(row.one_empty_cases),
        f"{_number(row.lesion_recall, 3)} ({row.lesions_found}/{row.lesions})",
        f"{_number(row.lesion_precision, 3)} ({row.predicted_components_true}/{row.predicted_components})",
        _number(row.lesion_f1, 3),
        str(row.false_positive_components),
        _number(row.false_positives_per_case, 2),
    )


def _mean(values: Sequence[float]) -> float:
    return fmean(values) if values else math.nan


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
