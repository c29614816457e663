"""What a method scores over many cases, as numbers and as a table."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, median

from nnunet_cascade.errors import SettingsError
from nnunet_cascade.evaluation.case import CaseScore
from nnunet_cascade.evaluation.pairs import EMPTY_POLICY
from nnunet_cascade.evaluation.surface import HD95_DEFINITION

_COLUMNS = (
    "Method",
    "n",
    "Dice, mean (n)",
    "HD95, mean mm (n)",
    "HD95, median mm",
    "one mask empty",
    "Lesion recall",
    "False positives",
    "per case",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class MethodSummary:
    """What one method scores over all its cases.

    Attributes:
        method: The method's name.
        cases: All cases, at least one.
        undefined_cases: Those with both masks empty; they have no Dice and no HD95.
        one_empty_cases: Those with one mask empty; their Dice is 0 and their HD95 the image diagonal.
        dice_mean: Over the defined cases; NaN where there is none.
        hd95_mean_mm: Over the defined cases; NaN where there is none.
        hd95_median_mm: Over the defined cases; NaN where there is none.
        lesions: In the truth of all cases.
        lesions_found: Those that a prediction overlaps.
        false_positive_components: Over all cases.
        false_positive_ml: Their volume.

    Raises:
        SettingsError: There is no case, or a count exceeds what it is a part of.
    """

    method: str
    cases: int
    undefined_cases: int
    one_empty_cases: int
    dice_mean: float
    hd95_mean_mm: float
    hd95_median_mm: float
    lesions: int
    lesions_found: int
    false_positive_components: int
    false_positive_ml: float

    def __post_init__(self) -> None:
        if self.cases < 1:
            raise SettingsError(f"{self.method}: found no case; a summary needs at least one")
        parts = (self.undefined_cases, self.one_empty_cases, self.lesions_found, self.false_positive_components)
        if min(parts) < 0 or self.undefined_cases + self.one_empty_cases > self.cases:
            raise SettingsError(f"found {self}; expected counts of parts of {self.cases} cases")
        if self.lesions_found > self.lesions:
            raise SettingsError(f"{self.method}: {self.lesions_found} of {self.lesions} lesions found; count again")

    @property
    def defined_cases(self) -> int:
        """Cases with a Dice and an HD95: the n of their means."""
        return self.cases - self.undefined_cases

    @property
    def lesion_recall(self) -> float:
        """Lesions found of all lesions, each counting once whatever its case; NaN without lesions."""
        return self.lesions_found / self.lesions if self.lesions else math.nan

    @property
    def false_positives_per_case(self) -> float:
        """False positive components per case, over all cases."""
        return self.false_positive_components / self.cases


def summarize(method: str, scores: Sequence[CaseScore]) -> MethodSummary:
    """Summarise the scores of one method.

    Raises:
        SettingsError: There is no score, or a case is scored twice.
    """
    names = [score.case for score in scores]
    if len(set(names)) < len(names):
        twice = sorted({name for name in names if names.count(name) > 1})
        raise SettingsError(f"{method}: cases scored twice: {', '.join(twice)}; give each case once")
    defined = [score for score in scores if score.empty != "both"]
    distances_mm = [score.hd95_mm for score in defined]
    return MethodSummary(
        method=method,
        cases=len(scores),
        undefined_cases=len(scores) - len(defined),
        one_empty_cases=sum(score.empty in {"truth", "prediction"} for score in scores),
        dice_mean=fmean(score.dice for score in defined) if defined else math.nan,
        hd95_mean_mm=fmean(distances_mm) if defined else math.nan,
        hd95_median_mm=median(distances_mm) if defined else math.nan,
        lesions=sum(score.lesions for score in scores),
        lesions_found=sum(score.lesions_found for score in scores),
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
    notes = ["", f"HD95: {HD95_DEFINITION}. {EMPTY_POLICY}", "Lesions and false positives: 26-connected components."]
    return "\n".join([*head, *body, *notes]) + "\n"


def _cells(row: MethodSummary) -> tuple[str, ...]:
    return (
        row.method.replace("|", "\\|"),
        str(row.cases),
        f"{_number(row.dice_mean, 3)} ({row.defined_cases})",
        f"{_number(row.hd95_mean_mm, 1)} ({row.defined_cases})",
        _number(row.hd95_median_mm, 1),
        str(row.one_empty_cases),
        f"{_number(row.lesion_recall, 3)} ({row.lesions_found}/{row.lesions})",
        str(row.false_positive_components),
        _number(row.false_positives_per_case, 2),
    )


def _number(value: float, digits: int) -> str:
    return "–" if math.isnan(value) else f"{value:.{digits}f}"
